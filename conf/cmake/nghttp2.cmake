# SPDX-License-Identifier: Apache-2.0
# Which nghttp2 may be linked: one without the holes that are known in what speaks for HTTP/2 to strangers, of which the
# last is CVE-2026-27135 (frames within a header block; before it CVE-2024-28182 and CVE-2023-44487). Upstream mended it
# in 1.68.1; Debian in its packages of older versions, which have the old number, so there the package's version counts.
# How to tell of a new hole: raise these.
set(NGHTTP2_UPSTREAM 1.68.1)
set(NGHTTP2_DEBIAN 1.52.0-1+deb12u3 1.64.0-1.1+deb13u1) # one for each upstream version that Debian has mended

# nghttp2_is_mended(OUT UPSTREAM PACKAGE): UPSTREAM as pkg-config says it, PACKAGE the version of the Debian package that
# the library is of, or "".
function(nghttp2_is_mended OUT UPSTREAM PACKAGE)
  set(${OUT} FALSE PARENT_SCOPE)
  if(UPSTREAM VERSION_GREATER_EQUAL NGHTTP2_UPSTREAM)
    set(${OUT} TRUE PARENT_SCOPE)
    return()
  endif()
  foreach(mended ${NGHTTP2_DEBIAN})
    string(REGEX REPLACE "-.*" "" of ${mended})
    if(PACKAGE STREQUAL "" OR NOT of VERSION_EQUAL UPSTREAM)
      continue()
    endif()
    execute_process(COMMAND dpkg --compare-versions ${PACKAGE} ge ${mended} RESULT_VARIABLE is_older ERROR_QUIET)
    if(is_older EQUAL 0)
      set(${OUT} TRUE PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

# debian_package(OUT FILE): "NAME VERSION" of the Debian package that has this file, or "".
function(debian_package OUT FILE)
  set(${OUT} "" PARENT_SCOPE)
  execute_process(COMMAND dpkg-query -S ${FILE} OUTPUT_VARIABLE owner RESULT_VARIABLE failed ERROR_QUIET)
  if(failed OR NOT owner MATCHES "^([^:, ]+)(:[^:, ]+)?: ")
    return()
  endif()
  execute_process(COMMAND dpkg-query -W -f "\${Package} \${Version}" ${CMAKE_MATCH_1}${CMAKE_MATCH_2}
    OUTPUT_VARIABLE package RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed)
    set(${OUT} "${package}" PARENT_SCOPE)
  endif()
endfunction()

# nghttp2_require(UPSTREAM LIBRARY): ends the configuration unless it is mended, or somebody vouches for it.
function(nghttp2_require UPSTREAM LIBRARY)
  debian_package(package ${LIBRARY})
  string(REGEX REPLACE ".* " "" version "${package}")
  nghttp2_is_mended(is_mended ${UPSTREAM} "${version}")
  if(is_mended OR ENVELOPE_NGHTTP2_IS_PATCHED)
    return()
  endif()
  message(FATAL_ERROR "nghttp2 ${UPSTREAM} (${LIBRARY}; package: ${package}) has known holes: CVE-2026-27135 and, before it, "
    "CVE-2024-28182 and CVE-2023-44487. Needed is ${NGHTTP2_UPSTREAM}, or a Debian package of ${NGHTTP2_DEBIAN} or later. "
    "If your distribution has mended this one under its old number, say so: -DENVELOPE_NGHTTP2_IS_PATCHED=ON")
endfunction()
