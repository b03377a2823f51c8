#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Secrets are compared in constant time: by secret_eq (base/secret.h), and by nothing else. A function of src/ that
compares up to the first difference (memcmp and its like, bytes_eq, ...) is given nothing that is named like a secret, and
CRYPTO_memcmp is called in base/secret.c alone. What only sounds so stands in PUBLIC. Exit status 1 with one line per
violation."""
import pathlib
import re
import sys

COMPARES = re.compile(r"\b(memcmp|bcmp|memmem|strn?cmp|strn?casecmp|bytes_eq|bytes_cmp|bytes_has_prefix)\(")
SECRET = re.compile(r"(?:\b|_)(secrets?|seed|kek|plain|plaintext|tag|mac|hmac|token|password|passphrase|derived|opened)\b(?!\()")

# What is named so and is none: file, word.
PUBLIC = {
    ("src/config/yaml.c", "tag"),  # YAML's
    ("src/config/yaml_scalar.c", "tag"),
}


def arguments(text, at):
    """What stands between the parenthesis that opens before at and its end."""
    depth, end = 1, at
    while depth and end < len(text):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    return text[at:end - 1]


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)


def check_file(name, text):
    """Yields (line number, problem)."""
    text = without_comments(text)
    for call in COMPARES.finditer(text):
        given = " ".join(arguments(text, call.end()).split())
        literals = re.sub(r'"(?:\\.|[^"\\])*"', '""', given)
        if any((name, word) not in PUBLIC for word in SECRET.findall(literals)):
            yield text.count("\n", 0, call.start()) + 1, f"{call.group(1)}({given}): a secret? secret_eq takes constant time"
    if "CRYPTO_memcmp(" in text and name != "src/base/secret.c":
        yield text.count("\n", 0, text.index("CRYPTO_memcmp(")) + 1, "CRYPTO_memcmp: secret_eq is the word for it"


def main(argv):
    root = pathlib.Path(argv[1] if len(argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    files = sorted(p for p in (root / "src").rglob("*") if p.suffix in (".c", ".h"))
    bad = 0
    for path in files:
        name = str(path.relative_to(root))
        for number, problem in check_file(name, path.read_text(errors="replace")):
            print(f"{name}:{number}: {problem}")
            bad += 1
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
