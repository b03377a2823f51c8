/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: status.html, at build time. Gives: its parts, between which the server writes. Owns:
 * nothing. Thread: any. The definitions are made by embed.cmake. */
#ifndef PAGES_STATUS_HTML_H
#define PAGES_STATUS_HTML_H

#include "base/bytes.h"

/* What the server writes in place of the marks of status.html, in this order. */
enum status_html_mark { STATUS_HTML_TITLE, STATUS_HTML_TOP, STATUS_HTML_REST, STATUS_HTML_MARKS };

/* The text before each mark, and that behind the last one. */
extern const struct bytes pages__status_html[STATUS_HTML_MARKS + 1];
/* Of the style and the script, as a Content-Security-Policy names them: "'sha256-...'". */
extern const char pages__status_html_style[], pages__status_html_script[];

#endif
