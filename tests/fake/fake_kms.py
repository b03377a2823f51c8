# SPDX-License-Identifier: Apache-2.0
"""A KMS plugin for tests (v2, and v1 on the same socket): right by default, and slow, wrong, gone or rotating when told to.

Wrapping keeps no state, so any two of them with the same key id understand each other:
nonce(12) || AES-256-GCM(SHA-256("etcd-envelope test kek:" + key_id), nonce, DEK, no AAD).
Attributes may be changed at any time from any thread; counters only grow.
"""
import collections
import concurrent.futures
import hashlib
import os
import threading
import time

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protos import kms, kms1

SERVICE = "v2.KeyManagementService"
SERVICE_V1 = "v1beta1.KeyManagementService"
V1 = "v1"  # what wraps for KMS v1, which has no key ids


def kek(key_id):
    return AESGCM(hashlib.sha256(b"etcd-envelope test kek:" + key_id.encode()).digest())


def wrap(key_id, dek):
    nonce = os.urandom(12)
    return nonce + kek(key_id).encrypt(nonce, dek, None)


class FakeKms:
    def __init__(self, path, key_id="key-1", annotations=None, threads=64):
        self.path = path
        self.key_id = key_id                # of Status, and of Encrypt unless encrypt_key_id says other
        self.encrypt_key_id = None
        self.annotations = annotations or {}
        self.version = "v2"
        self.v1_version = "v1beta1"
        self.healthz = "ok"
        self.delay = collections.Counter()  # seconds before each answer, by method; KMS v1's are "v1.Encrypt" and so on
        self.error = {}                     # method -> (grpc.StatusCode, text)
        self.wrapping = None                # what Encrypt does in place of wrapping: a function of the DEK
        self.annotate = None                # annotations as a function of the DEK
        self.wrong_dek = False              # Decrypt answers other bytes of the right length
        self.calls = collections.Counter()
        self.in_flight = collections.Counter()
        self.max_in_flight = collections.Counter()
        self.decrypted = []                 # (key_id, wrapped, annotations) of each Decrypt
        self.lock = threading.Lock()
        self.threads = threads
        self.server = None
        self.start()

    # --- coming and going ---

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        pool = concurrent.futures.ThreadPoolExecutor(self.threads)
        self.server = grpc.server(pool)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {
            "Status": self.handler("Status", self.status, kms.StatusRequest, kms.StatusResponse),
            "Encrypt": self.handler("Encrypt", self.encrypt, kms.EncryptRequest, kms.EncryptResponse),
            "Decrypt": self.handler("Decrypt", self.decrypt, kms.DecryptRequest, kms.DecryptResponse),
        }),))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_V1, {
            "Version": self.handler("v1.Version", self.v1_about, kms1.VersionRequest, kms1.VersionResponse),
            "Encrypt": self.handler("v1.Encrypt", self.v1_encrypt, kms1.EncryptRequest, kms1.EncryptResponse),
            "Decrypt": self.handler("v1.Decrypt", self.v1_decrypt, kms1.DecryptRequest, kms1.DecryptResponse),
        }),))
        if self.server.add_insecure_port(f"unix:{self.path}") == 0:
            raise OSError(f"cannot listen on {self.path}")
        self.server.start()

    def stop(self):
        """Gone: the socket too, calls under way are cut off."""
        if self.server is not None:
            self.server.stop(0).wait()
            self.server = None
        if os.path.exists(self.path):
            os.unlink(self.path)

    # --- the three methods ---

    def handler(self, name, function, request, response):
        def run(message, context):
            with self.lock:
                self.calls[name] += 1
                self.in_flight[name] += 1
                self.max_in_flight[name] = max(self.max_in_flight[name], self.in_flight[name])
            try:
                time.sleep(self.delay[name])
                if name in self.error:
                    context.abort(*self.error[name])
                return function(message, context)
            finally:
                with self.lock:
                    self.in_flight[name] -= 1
        return grpc.unary_unary_rpc_method_handler(run, request.FromString, response.SerializeToString)

    def status(self, _request, _context):
        return kms.StatusResponse(version=self.version, healthz=self.healthz, key_id=self.key_id)

    def encrypt(self, request, _context):
        key_id = self.encrypt_key_id or self.key_id
        return kms.EncryptResponse(ciphertext=self.wrap(key_id, request.plaintext), key_id=key_id,
                                   annotations=self.annotate(request.plaintext) if self.annotate else self.annotations)

    def wrap(self, key_id, dek):
        return self.wrapping(dek) if self.wrapping else wrap(key_id, dek)

    def decrypt(self, request, context):
        with self.lock:
            self.decrypted.append((request.key_id, request.ciphertext, dict(request.annotations)))
        return kms.DecryptResponse(plaintext=self.unwrap(request.key_id, request.ciphertext, context))

    def unwrap(self, key_id, wrapped, context):
        if len(wrapped) < 28:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrapped key too short")
        try:
            dek = kek(key_id).decrypt(wrapped[:12], wrapped[12:], None)
        except InvalidTag:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot unwrap")
        return bytes(b ^ 0xff for b in dek) if self.wrong_dek else dek

    # --- KMS v1 ---

    def v1_about(self, _request, _context):
        return kms1.VersionResponse(version=self.v1_version, runtime_name="fake", runtime_version="0")

    def v1_encrypt(self, request, _context):
        return kms1.EncryptResponse(cipher=self.wrap(V1, request.plain))

    def v1_decrypt(self, request, context):
        return kms1.DecryptResponse(plain=self.unwrap(V1, request.cipher, context))
