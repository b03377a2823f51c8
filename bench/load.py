# SPDX-License-Identifier: Apache-2.0
"""A load, as bench-load is told of it."""
import dataclasses


@dataclasses.dataclass
class Load:
    name: str
    kind: str
    connections: int = 1
    streams: int = 1
    rate: int = 0
    watchers: int = 0
    probes: bool = False
    scale: float = 1.0  # of the measuring time
    value: int = 0  # bytes, before a real etcd
    timeouts: bool = True  # grpc-timeout on calls

    def arguments(self):
        out = ["--kind", self.kind, "--connections", str(self.connections), "--streams", str(self.streams)]
        for name in ("rate", "watchers", "value"):
            if getattr(self, name):
                out += [f"--{name}", str(getattr(self, name))]
        return out + (["--probes"] if self.probes else []) + ([] if self.timeouts else ["--no-timeouts"])
