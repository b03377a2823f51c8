#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""conf/kubernetes and the Dockerfile: the program takes the flags that they give, what they name belongs together, nothing is more
open than it has to be; and after an upgrade of kubeadm's nobody gets around the proxy."""
import pathlib
import re
import subprocess
import unittest

import yaml

import harness  # first: it sets the path to tests/fake

CONF = harness.ROOT / "conf"
NODE = "10.0.0.11"


def load(name):
    return yaml.safe_load((CONF / "kubernetes" / name).read_text().replace("NODE-IP", NODE))


def pods():
    for path in sorted((CONF / "kubernetes").glob("*.yaml")):
        pod = load(path.name)
        if pod.get("kind") == "Pod":
            yield path.name, pod


def containers(pod):
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def proxy_flags(name):
    """The arguments of the proxy's container."""
    return next(c for c in containers(load(name)) if c["name"] == "etcd-envelope")["args"]


def flags(arguments):
    return dict((a.lstrip("-").split("=", 1) + ["true"])[:2] for a in arguments if a.startswith("--"))


def kubeadm_etcd(cluster):
    """The flags of etcd in the manifest that kubeadm (1.31) writes at init and at every upgrade, from a ClusterConfiguration
    alone: its own, and over them those of extraArgs."""
    pki = "/etc/kubernetes/pki/etcd"
    made = {"name": "node", "listen-client-urls": f"https://127.0.0.1:2379,https://{NODE}:2379",
            "advertise-client-urls": f"https://{NODE}:2379", "listen-peer-urls": f"https://{NODE}:2380",
            "initial-advertise-peer-urls": f"https://{NODE}:2380", "data-dir": "/var/lib/etcd",
            "cert-file": f"{pki}/server.crt", "key-file": f"{pki}/server.key", "trusted-ca-file": f"{pki}/ca.crt",
            "client-cert-auth": "true", "peer-cert-file": f"{pki}/peer.crt", "peer-key-file": f"{pki}/peer.key",
            "peer-trusted-ca-file": f"{pki}/ca.crt", "peer-client-cert-auth": "true", "snapshot-count": "10000",
            "listen-metrics-urls": "http://127.0.0.1:2381", "initial-cluster": f"node=https://{NODE}:2380"}
    made.update((a["name"], a["value"]) for a in cluster["etcd"]["local"]["extraArgs"])
    return made


class Manifests(unittest.TestCase):
    def test_flags_are_taken(self):
        found = 0
        for name, pod in pods():
            for container in containers(pod):
                if container["name"] != "etcd-envelope":
                    continue
                found += 1
                done = subprocess.run([harness.program("etcd-envelope"), *container["args"], "--print-config"],
                                      capture_output=True, text=True, check=False, timeout=30)
                self.assertEqual(done.returncode, 0, (name, done.stderr))
        self.assertEqual(found, 2)

    def test_paths_are_mounted(self):
        """Every path in an argument lies in a mount, every mount has a volume, every volume is mounted."""
        for name, pod in pods():
            volumes, mounted = {v["name"] for v in pod["spec"]["volumes"]}, set()
            for container in containers(pod):
                mounts = container.get("volumeMounts", [])
                mounted |= {m["name"] for m in mounts}
                for argument in container.get("args", []) + container.get("command", []):
                    for path in re.findall(r"(?:=|unix://)(/(?:etc|run)/[\w./-]+)", argument):
                        self.assertTrue(any(path.startswith(m["mountPath"] + "/") for m in mounts), (name, path))
            self.assertEqual(mounted, volumes, name)

    def test_least_privilege(self):
        for name, pod in pods():
            for container in containers(pod):
                if container["name"] == "kube-apiserver":
                    continue
                context = container["securityContext"]
                self.assertIs(context["readOnlyRootFilesystem"], True, name)
                self.assertIs(context["allowPrivilegeEscalation"], False, name)
                self.assertEqual(context["capabilities"]["drop"], ["ALL"], name)
                self.assertLessEqual(set(context["capabilities"].get("add", [])), {"IPC_LOCK"}, name)
                self.assertIn("memory", container["resources"]["limits"], name)
            self.assertEqual(pod["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")

    def test_images_have_no_host(self):
        for name, pod in pods():
            for container in containers(pod):
                self.assertRegex(container["image"], r"^[a-z-]+:[\w.]+$", name)

    def test_probes_meet_the_metrics_listener(self):
        for name in ("kubeadm-etcd-envelope.yaml", "apiserver-sidecar.yaml"):
            url = flags(proxy_flags(name))["listen-metrics-urls"]
            container = next(c for c in containers(load(name)) if c["name"] == "etcd-envelope")
            for probe in ("livenessProbe", "startupProbe"):
                get = container.get(probe, container["livenessProbe"])["httpGet"]
                self.assertEqual(f"{get['scheme'].lower()}://{get['host']}:{get['port']}", url, name)

    def test_sidecar(self):
        pod = load("apiserver-sidecar.yaml")
        self.assertEqual(pod["spec"]["initContainers"][0]["restartPolicy"], "Always")
        apiserver = flags(pod["spec"]["containers"][0]["command"])
        self.assertEqual(apiserver["etcd-servers"], flags(proxy_flags("apiserver-sidecar.yaml"))["listen-client-urls"])
        self.assertEqual([f for f in apiserver if f.startswith("etcd-") and f.endswith("file")], [])

    def test_plugin_is_where_samples_look_for_it(self):
        listen = flags(load("aws-kms.yaml")["spec"]["containers"][0]["command"])["listen"]
        self.assertIn(f"unix://{listen}", (CONF / "examples" / "encryption-secrets.yaml").read_text())

    def test_canary(self):
        (argument,) = load("kubeadm-canary.yaml")["apiServer"]["extraArgs"]
        self.assertRegex(argument["value"], r"^[a-z.]*/[a-z]+#https://127\.0\.0\.1:23790$")


class Upgrade(harness.E2E):
    """What kubeadm writes at an upgrade is what the proxy and kube-apiserver were set up for."""
    needs_proxy = True

    @classmethod
    def start(cls):
        pass

    def setUp(self):
        super().setUp()
        self.etcd_flags = kubeadm_etcd(load("kubeadm-cluster.yaml"))
        self.proxy_flags = flags(proxy_flags("kubeadm-etcd-envelope.yaml"))

    def wait_for(self, call, process):
        """Until the call works; what the process says otherwise."""
        def works():
            try:
                return call()
            except harness.grpc.RpcError as error:
                self.last_error = error
                return None
        try:
            harness.wait_until(works, 30, "answer")
        except AssertionError as problem:
            self.fail(f"{problem}; {self.last_error.details()}\n{process.log()[-2000:]}")

    def test_addresses(self):
        """etcd has given up kubeadm's client addresses; the proxy has exactly these, and members lead to it."""
        kubeadm = kubeadm_etcd({"etcd": {"local": {"extraArgs": []}}})
        self.assertEqual(self.proxy_flags["listen-client-urls"], kubeadm["listen-client-urls"])
        self.assertEqual(self.proxy_flags["advertise-client-urls"], self.etcd_flags["advertise-client-urls"])
        self.assertEqual(self.proxy_flags["etcd-servers"], self.etcd_flags["listen-client-urls"])
        self.assertRegex(self.etcd_flags["listen-client-urls"], r"^https://127\.0\.0\.1:\d+$")
        for flag in ("cert-file", "key-file"):
            self.assertEqual(self.proxy_flags[flag], kubeadm[flag])

    def test_nobody_gets_around(self):
        """With certificates as the two manifests name them: kube-apiserver's gets into the proxy, and not into etcd."""
        kubeadm, envelope = self.env.tls("kubeadm", names=("client", "apiserver-etcd-client")), self.env.tls("envelope")
        self.assertNotEqual(self.etcd_flags["trusted-ca-file"], self.proxy_flags["trusted-ca-file"])
        files = {pathlib.Path(self.etcd_flags["trusted-ca-file"]).name: envelope.path("ca.crt"),
                 pathlib.Path(self.proxy_flags["trusted-ca-file"]).name: kubeadm.path("ca.crt")}
        port = harness.free_port()
        url = f"https://127.0.0.1:{port}"
        process = self.env.start("etcd", [
            harness.etcd_program("etcd"), "--data-dir", self.env.path("etcd.data"), "--listen-client-urls", url,
            "--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:0", "--log-level", "warn",
            "--initial-advertise-peer-urls", "http://127.0.0.1:2380", "--initial-cluster", "default=http://127.0.0.1:2380",
            "--unsafe-no-fsync", "--cert-file", kubeadm.path("server.crt"), "--key-file", kubeadm.path("server.key"),
            "--trusted-ca-file", files["envelope-ca.crt"], "--client-cert-auth",
            "--enable-grpc-gateway=" + self.etcd_flags["enable-grpc-gateway"]])
        own = self.env.client(f"127.0.0.1:{port}", harness.grpc.ssl_channel_credentials(
            kubeadm.path("ca.crt").read_bytes(), envelope.path("client.key").read_bytes(),
            envelope.path("client.crt").read_bytes()))
        self.wait_for(lambda: own.get(b"up", timeout=5), process)
        kms = self.env.kms()
        proxy = self.env.proxy([url], self.env.config(kms.path), tls=kubeadm, wait=False, flags=[
            "--cert-file", kubeadm.path("server.crt"), "--key-file", kubeadm.path("server.key"), "--client-cert-auth",
            "--trusted-ca-file", files["ca.crt"], "--etcd-cafile", kubeadm.path("ca.crt"),
            "--etcd-certfile", envelope.path("client.crt"), "--etcd-keyfile", envelope.path("client.key")])
        credentials = kubeadm.credentials("apiserver-etcd-client")
        through = self.env.client(proxy.target, credentials)
        self.wait_for(lambda: through.put(self.secret(), b"sealed", timeout=5), proxy.process)
        around = self.env.client(f"127.0.0.1:{port}", credentials)
        with self.assertRaises(harness.grpc.RpcError):
            around.put(self.secret(), b"plain", timeout=3)
        self.assertSealed(self.secret(), b"sealed", raw=own)


class Image(unittest.TestCase):
    def test_dockerfile(self):
        """Debian 13, no compiler in what is shipped, not root, and the tests' own list of packages."""
        stages = (CONF / "Dockerfile").read_text().split("\nFROM ")[1:]
        self.assertEqual(len(stages), 2)
        for stage in stages:
            self.assertTrue(stage.startswith("debian:trixie-slim"))
        self.assertIn("${packages_build[@]}", stages[0])
        self.assertNotIn("packages_build", stages[1])
        self.assertRegex(stages[1], r"(?m)^USER [1-9]\d*:[1-9]\d*$")
        self.assertIn('ENTRYPOINT ["/usr/bin/etcd-envelope"]', stages[1])


if __name__ == "__main__":
    harness.main()
