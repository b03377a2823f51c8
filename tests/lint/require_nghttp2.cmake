# SPDX-License-Identifier: Apache-2.0
# cmake -DUPSTREAM=VERSION -P: what the configuration says of a library of this version that is of no package.
include(${CMAKE_CURRENT_LIST_DIR}/../../conf/cmake/nghttp2.cmake)
nghttp2_require(${UPSTREAM} /nowhere/libnghttp2.so)
