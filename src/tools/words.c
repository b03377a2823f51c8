/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/words.h"

#include "sweep/judge.h"

const char *tools_words(enum err e)
{
    switch (e) {
    case ERR_NO_MATCHING_PREFIX:
        return "no provider of this key's list has the prefix that the value begins with";
    case ERR_NO_MATCHING_KEY:
        return "no key of the provider has the name that the value begins with";
    case ERR_IDENTITY_SAW_ENCRYPTED:
        return "the value is sealed, and only identity is left to read it";
    case ERR_TOO_SHORT:
        return "the encrypted data is shorter than its fixed parts";
    case ERR_AUTH_FAILED:
        return "it is not authentic: damaged, sealed with another key, or (not with secretbox) of "
               "another etcd key";
    case ERR_BAD_BLOCK_SIZE:
        return "the encrypted data is no multiple of the block size";
    case ERR_BAD_PADDING:
        return "the padding is wrong: damaged, or sealed with another key";
    case ERR_PROTOBUF_MALFORMED:
        return "what follows the prefix is no well-formed protobuf message";
    case ERR_INVALID_UTF8:
        return "the key id or an annotation key is not UTF-8";
    case ERR_UNKNOWN_DEK_SOURCE_TYPE:
        return "the DEK source type is unknown";
    case ERR_ENCRYPTED_DATA_EMPTY:
        return "there is no encrypted data";
    case ERR_DEK_SOURCE_EMPTY:
        return "there is no wrapped DEK";
    case ERR_DEK_SOURCE_TOO_LONG:
        return "the wrapped DEK is longer than 1024 bytes";
    case ERR_KEY_ID_EMPTY:
        return "there is no key id";
    case ERR_KEY_ID_TOO_LONG:
        return "the key id is longer than 1024 bytes";
    case ERR_ANNOTATIONS_INVALID:
        return "an annotation key is no domain name, or the annotations exceed 32 KiB";
    case ERR_V1_BAD_LENGTH_PREFIX:
        return "the length of the wrapped DEK does not fit";
    case ERR_BAD_DEK_SIZE:
        return "the KMS plugin unwrapped a DEK of a wrong size";
    case ERR_KMS_ERROR:
        return "the KMS plugin does not unwrap its DEK";
    case ERR_DEK_SOURCE_EXPOSED:
        return "the KMS plugin gives the DEK source back as it is, or within its answer";
    default:
        return sweep_key_words(e);
    }
}
