# SPDX-License-Identifier: Apache-2.0
# cmake -DFROM=status.html -DTO=status_html.c -P embed.cmake: the page as C, cut at its marks, and the hashes of its style
# and its script, by which alone a browser is to take them.
cmake_minimum_required(VERSION 3.25)
file(READ ${FROM} html)

# to_base64(HEX VARIABLE): of bytes that are given as hex digits.
function(to_base64 hex out)
  set(alphabet ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  string(LENGTH ${hex} length)
  set(text "")
  while(length GREATER 0)
    string(SUBSTRING ${hex}0000 0 6 three)
    math(EXPR bits "0x${three}")
    foreach(shift 18 12 6 0)
      math(EXPR index "(${bits} >> ${shift}) & 63")
      string(SUBSTRING ${alphabet} ${index} 1 letter)
      string(APPEND text ${letter})
    endforeach()
    math(EXPR length "${length} - 6")
    if(length GREATER 0)
      string(SUBSTRING ${hex} 6 -1 hex)
    endif()
  endwhile()
  string(LENGTH ${text} count)
  if(length EQUAL -4) # one byte was left
    math(EXPR count "${count} - 2")
    string(SUBSTRING ${text} 0 ${count} text)
    string(APPEND text "==")
  elseif(length EQUAL -2) # two were
    math(EXPR count "${count} - 1")
    string(SUBSTRING ${text} 0 ${count} text)
    string(APPEND text "=")
  endif()
  set(${out} ${text} PARENT_SCOPE)
endfunction()

# cut(BEGIN END BETWEEN): what stands between two texts that the page has once.
function(cut begin end out)
  string(FIND "${html}" "${begin}" from)
  string(FIND "${html}" "${end}" to)
  string(LENGTH "${begin}" skip)
  math(EXPR length "${to} - ${from} - ${skip}")
  math(EXPR from "${from} + ${skip}")
  if(length LESS 0)
    message(FATAL_ERROR "${FROM} has no ${begin}...${end}")
  endif()
  string(SUBSTRING "${html}" ${from} ${length} text)
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

# to_c(TEXT VARIABLE): the initializer of an array of its bytes.
function(to_c text out)
  string(HEX "${text}" hex)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  set(${out} "{${bytes}0}" PARENT_SCOPE)
endfunction()

set(hashes "")
foreach(element style script)
  cut("<${element}>" "</${element}>" text)
  string(SHA256 hash "${text}")
  to_base64(${hash} hash)
  string(APPEND hashes "const char pages__status_html_${element}[] = \"'sha256-${hash}'\";\n")
endforeach()

set(parts "")
set(list "")
foreach(mark TITLE TOP REST)
  string(FIND "${html}" "@${mark}@" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${FROM} has no @${mark}@")
  endif()
  string(SUBSTRING "${html}" 0 ${at} part)
  string(LENGTH "@${mark}@" skip)
  math(EXPR at "${at} + ${skip}")
  string(SUBSTRING "${html}" ${at} -1 html)
  to_c("${part}" bytes)
  string(APPEND parts "static const uint8_t before_${mark}[] = ${bytes};\n")
  string(APPEND list "    {before_${mark}, sizeof before_${mark} - 1},\n")
endforeach()
to_c("${html}" bytes)
string(APPEND parts "static const uint8_t end[] = ${bytes};\n")
string(APPEND list "    {end, sizeof end - 1},\n")

file(WRITE ${TO} "/* Made of status.html by embed.cmake. */
#include \"pages/status_html.h\"

${parts}
const struct bytes pages__status_html[] = {
${list}};
${hashes}")
