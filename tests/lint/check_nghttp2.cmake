# SPDX-License-Identifier: Apache-2.0
# cmake -P: which versions of nghttp2 the configuration takes (conf/cmake/nghttp2.cmake), case by case.
include(${CMAKE_CURRENT_LIST_DIR}/../../conf/cmake/nghttp2.cmake)

function(takes UPSTREAM PACKAGE WANTED)
  nghttp2_is_mended(got "${UPSTREAM}" "${PACKAGE}")
  if(NOT got STREQUAL WANTED)
    message(SEND_ERROR "nghttp2 ${UPSTREAM}, package \"${PACKAGE}\": ${got}, should be ${WANTED}")
  endif()
endfunction()

takes(1.68.1 "" TRUE)
takes(1.70.0 "" TRUE)
takes(2.0.0 "" TRUE)
takes(1.68.1 1.68.1-1 TRUE)
takes(1.68.0 "" FALSE)
takes(1.68.0 1.68.0-2 FALSE)
takes(1.52.0 "" FALSE) # a library of nobody's
takes(1.43.0 1.43.0-1+deb11u9 FALSE)
takes(1.60.0 1.52.0-1+deb12u3 FALSE) # a package of another version

find_program(DPKG dpkg)
if(NOT DPKG)
  message(STATUS "no dpkg: Debian's versions are not compared")
  return()
endif()
takes(1.52.0 1.52.0-1 FALSE)
takes(1.52.0 1.52.0-1+deb12u1 FALSE)
takes(1.52.0 1.52.0-1+deb12u2 FALSE)
takes(1.52.0 1.52.0-1+deb12u3 TRUE)
takes(1.52.0 1.52.0-1+deb12u10 TRUE)
takes(1.64.0 1.64.0-1.1 FALSE)
takes(1.64.0 1.64.0-1.1+deb13u1 TRUE)
takes(1.64.0 1.64.0-1.1+deb13u2 TRUE)
takes(1.64.0 "no version" FALSE)

# The whole rule, with a library that is of no package.
execute_process(COMMAND ${CMAKE_COMMAND} -DUPSTREAM=1.52.0 -P ${CMAKE_CURRENT_LIST_DIR}/require_nghttp2.cmake
  RESULT_VARIABLE refused ERROR_VARIABLE said OUTPUT_QUIET)
if(refused EQUAL 0 OR NOT said MATCHES "CVE-2026-27135")
  message(SEND_ERROR "an old nghttp2 is not refused: ${said}")
endif()
foreach(argument -DUPSTREAM=1.68.1 "-DUPSTREAM=1.52.0;-DENVELOPE_NGHTTP2_IS_PATCHED=ON")
  execute_process(COMMAND ${CMAKE_COMMAND} ${argument} -P ${CMAKE_CURRENT_LIST_DIR}/require_nghttp2.cmake
    RESULT_VARIABLE refused ERROR_VARIABLE said OUTPUT_QUIET)
  if(NOT refused EQUAL 0)
    message(SEND_ERROR "refused: ${argument}: ${said}")
  endif()
endforeach()
