# SPDX-License-Identifier: Apache-2.0
"""The stored format, written a second time from its description, with the fake plugin's keys: so a test
can judge what lies in etcd without the program under test, and plant values of its own."""
import hashlib
import hmac
import os

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import fake_kms
from protos import obj

MARK = b"k8s:enc:kms:v2:"
MARK_V1 = b"k8s:enc:kms:v1:"


def derive(seed, info):
    return hmac.new(seed, info + b"\x01", hashlib.sha256).digest()


def seal(key, value, key_id="key-1", provider="test", seed=None, annotations=None, source_type=1, wrapped=None):
    """A value as kube-apiserver would store it under etcd key `key`; wrapped: in place of the wrapped seed."""
    seed = seed or os.urandom(32)
    nonce = os.urandom(12)
    if source_type == 1:
        info = os.urandom(32)
        data = info + nonce + AESGCM(derive(seed, info)).encrypt(nonce, value, key)
    else:
        data = nonce + AESGCM(seed).encrypt(nonce, value, key)
    return MARK + provider.encode() + b":" + obj.EncryptedObject(
        encrypted_data=data, key_id=key_id, encrypted_dek_source=wrapped or fake_kms.wrap(key_id, seed),
        annotations=annotations or {}, encrypted_dek_source_type=source_type).SerializeToString()


def seal_v1(key, value, provider="old", dek=None, cbc=False):
    """A KMS v1 value: of today, or, cbc, of servers before v1.25."""
    dek, nonce = dek or os.urandom(32), os.urandom(16 if cbc else 12)
    wrapped = fake_kms.wrap(fake_kms.V1, dek)
    if cbc:
        pad = padding.PKCS7(128).padder()
        cipher = Cipher(algorithms.AES(dek), modes.CBC(nonce)).encryptor()
        data = nonce + cipher.update(pad.update(value) + pad.finalize()) + cipher.finalize()
    else:
        data = nonce + AESGCM(dek).encrypt(nonce, value, key)
    return MARK_V1 + provider.encode() + b":" + len(wrapped).to_bytes(2, "big") + wrapped + data


def unseal_v1(key, stored, provider="old"):
    """Returns (plaintext, DEK). Raises InvalidTag or ValueError."""
    head = MARK_V1 + provider.encode() + b":"
    if not stored.startswith(head):
        raise ValueError(f"no {head!r} at the front of {stored[:60]!r}")
    body = stored[len(head):]
    end = 2 + int.from_bytes(body[:2], "big")
    dek = fake_kms.kek(fake_kms.V1).decrypt(body[2:14], body[14:end], None)
    return AESGCM(dek).decrypt(body[end:end + 12], body[end + 12:], key), dek


def parse(stored, provider="test"):
    head = MARK + provider.encode() + b":"
    if not stored.startswith(head):
        raise ValueError(f"no {head!r} at the front of {stored[:60]!r}")
    return obj.EncryptedObject.FromString(stored[len(head):])


def unseal(key, stored, provider="test"):
    """Opens a stored value. Raises InvalidTag or ValueError."""
    parsed = parse(stored, provider)
    wrapped, data = parsed.encrypted_dek_source, parsed.encrypted_data
    seed = fake_kms.kek(parsed.key_id).decrypt(wrapped[:12], wrapped[12:], None)
    if parsed.encrypted_dek_source_type == 1:
        info, data = data[:32], data[32:]
        seed = derive(seed, info)
    return AESGCM(seed).decrypt(data[:12], data[12:], key)
