# SPDX-License-Identifier: Apache-2.0
# Target sbom: etcd-envelope.spdx.json, what the programs are linked with. Its components are the packages that the
# top-level CMakeLists.txt has found: each PkgConfig:: target, with pkg-config's name and version; so a new library
# needs no line here.
if(ENVELOPE_SANITIZE OR ENVELOPE_FUZZ OR ENVELOPE_COVERAGE)
  return() # linked with runtimes that nobody ships
endif()
find_package(Python3 COMPONENTS Interpreter)
if(NOT Python3_Interpreter_FOUND)
  message(STATUS "no Python 3: no SBOM is made")
  return()
endif()

set(components)
get_property(targets DIRECTORY ${CMAKE_SOURCE_DIR} PROPERTY IMPORTED_TARGETS)
foreach(target ${targets})
  if(NOT target MATCHES "^PkgConfig::(.*)$")
    continue()
  endif()
  set(prefix ${CMAKE_MATCH_1})
  list(GET ${prefix}_LINK_LIBRARIES 0 library)
  debian_package(package ${library})
  string(REPLACE ";" "," libraries "${${prefix}_LINK_LIBRARIES}")
  list(APPEND components --component "${${prefix}_MODULE_NAME}|${${prefix}_VERSION}|${libraries}|${package}")
endforeach()

# http-parser has no pkg-config file: its version is in its header.
find_file(HTTP_PARSER_HEADER http_parser.h)
file(STRINGS ${HTTP_PARSER_HEADER} lines REGEX "#define HTTP_PARSER_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^;0-9]" "" numbers "${lines}")
string(REPLACE ";" "." version "${numbers}")
debian_package(package ${HTTP_PARSER_LIBRARY})
list(APPEND components --component "http_parser|${version}|${HTTP_PARSER_LIBRARY}|${package}")

set(sbom ${CMAKE_BINARY_DIR}/etcd-envelope.spdx.json)
add_custom_command(OUTPUT ${sbom}
  COMMAND ${CMAKE_COMMAND} -E env READELF=${CMAKE_READELF} ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/sbom.py --out ${sbom} --name etcd-envelope
    --version ${PROJECT_VERSION} --compiler ${CMAKE_C_COMPILER} ${components}
    $<TARGET_FILE:etcd-envelope> $<TARGET_FILE:etcd-envelope-local-kms>
  DEPENDS ${CMAKE_CURRENT_LIST_DIR}/sbom.py etcd-envelope etcd-envelope-local-kms VERBATIM)
add_custom_target(sbom ALL DEPENDS ${sbom})
install(FILES ${sbom} DESTINATION ${doc})
