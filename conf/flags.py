#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what follows from the programs' --help, so that nothing has to be kept equal by hand:
  etcd-envelope.yaml          the annotated configuration file
  man/*.scd                   what stands between "; flags of NAME" and "; end"
  completion/*                for bash, zsh and fish
Run it after a change of flags or help texts. --check writes nothing and says what is out of date (exit status 1)."""
import argparse
import difflib
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PROXY, PLUGIN = "etcd-envelope", "etcd-envelope-local-kms"
SPDX = "SPDX-License-Identifier: Apache-2.0"
MADE = "Written by conf/flags.py from --help: do not edit."

# The words that a value may be, by how help calls it.
WORDS = {"LEVEL": ["debug", "info", "warn", "error"], "FORMAT": ["text", "json"]}

# What more there is to say in the configuration file; and what is set there, all else is a comment.
SET = {
    "listen-client-urls": "http://127.0.0.1:23790",
    "etcd-servers": "http://127.0.0.1:2379",
    "encryption-provider-config": "/etc/etcd-envelope/encryption.yaml",
}
# Where the default cannot be written down: what is taken when the comment sign goes.
SAMPLES = {"allowed-client-names": "kube-apiserver-etcd-client"}
NOTES = {
    "listen-client-urls": "Whoever reaches it reads plaintext: beyond loopback and unix sockets it takes https and trusted-ca-file.",
    "advertise-client-urls": "Several members behind proxies: m1=https://10.0.0.11:2379,m2=https://10.0.0.12:2379",
    "cert-file": "TLS files are read again when they change.",
    "trusted-ca-file": "Give the CA of etcd clients, not that of the whole cluster: its certificates all get in.",
    "allowed-client-names": "Below: what kubeadm's kube-apiserver has. It needs trusted-ca-file.",
    "listen-metrics-urls": "It tells who is protected by what, so it needs the same care as the client port.",
    "etcd-servers": "etcd itself, which nobody else should be able to reach. Several: separated by commas.",
    "encryption-provider-config": "The same file that kube-apiserver would read. chmod 600: it may hold keys.",
    "encryption-provider-config-automatic-reload": "Else `systemctl reload etcd-envelope` (SIGHUP) has it read again.",
    "allow-identity-writes": "Only for the way off: new values are plaintext then.",
    "memory-limit": "Where it is used up large messages wait. The process takes at most 48 MB beside it.",
    "workers": "Each has connections to etcd of its own. Two carry more than most clusters ever ask for.",
    "log-level": "debug shows the names of secrets that do not open.",
}


# --- what --help says ---

class Flag:
    def __init__(self, name, value, text=""):
        self.name, self.value, self.text = name, value, text
        self.follows = False  # another on the same line, with which it has its text in common

    @property
    def default(self):
        m = re.search(r"\(default ([^ )]*)\)$", self.text)  # several words only explain
        return m[1] if m else ""

    def words(self):
        """The values that it takes, if these are a few words."""
        if self.value and "|" in self.value:
            return self.value.split("|")
        return WORDS.get(self.value, [])

    def is_file(self):
        return self.value == "FILE"


class Help:
    """sections: [(heading, [Flag])]; intro and outro: paragraphs before and after the flags."""

    def __init__(self, text):
        self.text, self.usage, self.intro, self.outro, self.sections = text, [], [], [], []
        for block in re.split(r"\n\n+", text.strip("\n")):
            self.take_block(block.split("\n"))

    def take_block(self, lines):
        if lines[0].lower().startswith("usage:"):
            self.usage = [re.sub(r"^usage:", "", line, flags=re.I).strip() for line in lines]
            return
        heading = ""
        if len(lines) > 1 and lines[0].endswith(":") and lines[1].startswith("  --"):
            heading, lines = lines[0][:-1], lines[1:]
        if not lines[0].startswith("  --"):
            (self.outro if self.sections else self.intro).append(lines)
            return
        flags = []
        group = []
        for line in lines:
            if line.startswith("  --"):
                group = self.take_flags(line[2:])
                flags += group
            else:
                for flag in group:
                    flag.text = f"{flag.text} {line.strip()}".strip()
        self.sections.append((heading, flags))

    @staticmethod
    def take_flags(line):
        """One or more flags, with commas; or a flag, then three blanks and its text."""
        spec, _, text = line.partition("   ")
        flags = []
        for part in spec.split(", "):
            name, _, value = part.strip().partition(" ")
            flags.append(Flag(name.removeprefix("--"), value.strip(), text.strip()))
            flags[-1].follows = len(flags) > 1
        return flags

    def flags(self):
        seen = {}
        for _, flags in self.sections:
            for flag in flags:
                seen.setdefault(flag.name, flag)
        return list(seen.values())


def run(program, *argv):
    return subprocess.run([str(program), *argv], check=True, capture_output=True, text=True, timeout=30).stdout


class Programs:
    def __init__(self, build):
        top = run(build / PROXY, "help")
        self.commands, self.said = {}, {}
        for line in top.splitlines():
            m = re.match(r"^(?:usage:)?\s*etcd-envelope \[?([a-z-]+)\]?(?: \[flags\])?\s*(.*)$", line)
            if not m:
                continue
            self.said[m[1]] = m[2].strip() or "prints the version"
            if "[flags]" in line:
                self.commands[m[1]] = Help(run(build / PROXY, m[1], "--help"))
        self.plugin = Help(run(build / PLUGIN, "--help"))
        self.take_texts_of_serve()

    def take_texts_of_serve(self):
        """A tool names some flags of serve without a word."""
        texts = {flag.name: flag.text for flag in self.commands["serve"].flags()}
        for help_ in self.commands.values():
            for _, flags in help_.sections:
                for flag in flags:
                    if not flag.text:
                        flag.text, flag.follows = texts[flag.name], False

    def flags_of(self, name):
        """All that completion offers: a tool that says so takes those of serve, too."""
        own = self.commands[name].flags()
        if "All flags of serve are taken" in self.commands[name].text:
            names = {flag.name for flag in own}
            own = own + [f for f in self.commands["serve"].flags() if f.name not in names]
        if "help" not in {flag.name for flag in own}:
            own.append(Flag("help", "", "show this text and exit"))
        return own


# --- the configuration file ---

def wrap(text, width=116):
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return lines + [line] if line else lines


def yaml_value(flag):
    if flag.name in SAMPLES:
        return " " + SAMPLES[flag.name]
    if flag.name in SET:
        return " " + SET[flag.name]
    if not flag.value:
        return f" {flag.default or 'false'}"
    text = flag.default
    return f" {text}" if text else ' ""' if flag.value in ("FILE", "PREFIX", "NAME") else " []"


def make_yaml(programs):
    out = [f"# {SPDX}", f"# {MADE}", "#",
           "# For `etcd-envelope serve --config-file`. Names are those of the flags; a flag and its environment variable",
           "# (ETCD_ENVELOPE_<FLAG>) win over this file. What is commented out has its default here.",
           "# `etcd-envelope check --config-file FILE` says whether it would work; `--print-config` what is in force."]
    for heading, flags in programs.commands["serve"].sections:
        flags = [f for f in flags if f.name not in ("help", "print-config", "config-file")]
        out += ["", f"# --- {heading} ---"] if flags else []
        for flag in flags:
            text = re.sub(r" ?\(default [^ )]*\)$", "", flag.text)
            out += ["", *("# " + line for line in wrap(text[0].upper() + text[1:] + "."))]
            out += ["# " + line for line in wrap(NOTES.get(flag.name, ""))]
            out.append(("" if flag.name in SET else "#") + flag.name + ":" + yaml_value(flag))
    return "\n".join(out) + "\n"


# --- man pages ---

def man_text(text):
    return re.sub(r"^([-.])", r"\\\1", re.sub(r"([\\*_#~`<>])", r"\\\1", text))


def man_flags(help_):
    out = []
    for heading, flags in help_.sections:
        if heading:
            out += [man_text(heading) + ":", ""]
        for i, flag in enumerate(flags):
            term = f"*--{flag.name}*" + (f" _{man_text(flag.value)}_" if flag.value else "")
            if flag.follows:
                out[-1] += ", " + term
            else:
                out.append(term)
            if not (i + 1 < len(flags) and flags[i + 1].follows):
                out += [*("\t" + man_text(line) for line in wrap(flag.text, 90)), ""]
    return out


def man_command(help_):
    """Description, flags, exit status: all that help has."""
    out = []
    for lines in help_.intro:
        out += [man_text(" ".join(line.strip() for line in lines)), ""]
    out += man_flags(help_)
    for lines in help_.outro:
        out += [man_text(" ".join(line.strip() for line in lines)), ""]
    return out


def make_man(path, programs):
    """The page with what lies between its marks made anew."""
    out, skipping = [], False
    for line in path.read_text().splitlines():
        m = re.match(r"^; flags of ([a-z-]+)$", line)
        if line == "; end":
            skipping = False
        if not skipping:
            out.append(line)
        if m:
            help_ = programs.plugin if m[1] == PLUGIN else programs.commands[m[1]]
            out += ["", *man_command(help_)]
            skipping = True
    return "\n".join(out) + "\n"


# --- completion ---

def short(text):
    """A line for a menu."""
    text = re.sub(r" ?\(default [^)]*\)$", "", text)
    text = re.split(r"[:;.] |, such as", text)[0]
    return text if len(text) <= 78 else text[:75].rsplit(" ", 1)[0] + " ..."


def bash_cases(flags):
    for flag in flags:
        if flag.words():
            yield f"        --{flag.name}) COMPREPLY=($(compgen -W '{' '.join(flag.words())}' -- \"$cur\")) ;;"
    files = [f"--{flag.name}" for flag in flags if flag.is_file()]
    other = [f"--{flag.name}" for flag in flags if flag.value and not flag.words() and not flag.is_file()]
    yield f"        {' | '.join(files)}) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$cur\")) ;;"
    if other:
        yield f"        {' | '.join(other)}) ;;"


BASH_HEAD = """# {spdx}
# {made}
# bash: source it, or install it as share/bash-completion/completions/{name}.

# Sets cur and prev, with --name=value taken apart as --name value is.
_{function}_words() {{
    cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
}}
"""


def make_bash(programs):
    every = {}
    for name in programs.commands:
        for flag in programs.flags_of(name):
            every.setdefault(flag.name, flag)
    out = [BASH_HEAD.format(spdx=SPDX, made=MADE, name=PROXY, function="etcd_envelope"),
           "_etcd_envelope() {", "    local cur prev command=serve word", "    COMPREPLY=()", "    _etcd_envelope_words",
           "    if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} != -* ]]; then", "        command=${COMP_WORDS[1]}", "    fi",
           "    if ((COMP_CWORD == 1)) && [[ $cur != -* ]]; then",
           f"        COMPREPLY=($(compgen -W '{' '.join(programs.said)} help' -- \"$cur\"))", "        return", "    fi",
           "    case $prev in", *(line[4:] for line in bash_cases(every.values())), "    *)", "        case $command in"]
    for name in programs.commands:
        words = " ".join("--" + f.name for f in programs.flags_of(name))
        out.append(f"        {name}) word='{words}' ;;")
    out += ["        *) word= ;;", "        esac", '        COMPREPLY=($(compgen -W "$word" -- "$cur"))', "        ;;", "    esac", "}",
            f"complete -F _etcd_envelope {PROXY}", "", "_etcd_envelope_local_kms() {", "    local cur prev", "    COMPREPLY=()",
            "    _etcd_envelope_words", "    case $prev in", *(line[4:] for line in bash_cases(programs.plugin.flags())),
            f"    *) COMPREPLY=($(compgen -W '{' '.join('--' + f.name for f in programs.plugin.flags())}' -- \"$cur\")) ;;",
            "    esac", "}", f"complete -F _etcd_envelope_local_kms {PLUGIN}"]
    return "\n".join(out) + "\n"


def zsh_quote(text):
    return text.replace("'", "'\\''")


def zsh_spec(flag):
    text = short(flag.text).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    action = ""
    if flag.words():
        action = f":{flag.name}:({' '.join(flag.words())})"
    elif flag.is_file():
        action = ":file:_files"
    elif flag.value:
        action = f":{flag.value.replace(':', '')}: "
    equals = "=" if flag.value else ""
    return zsh_quote(f"*--{flag.name}{equals}[{text}]{action}")


def make_zsh(programs):
    out = [f"#compdef {PROXY} {PLUGIN}", f"# {SPDX}", f"# {MADE}", "# zsh: a file of this name in a folder of $fpath.", ""]
    for name in programs.commands:
        out += [f"_etcd_envelope_{name}() {{", "    _arguments \\",
                " \\\n".join(f"        '{zsh_spec(f)}'" for f in programs.flags_of(name)), "}", ""]
    out += ["_etcd_envelope_local_kms() {", "    _arguments \\",
            " \\\n".join(f"        '{zsh_spec(f)}'" for f in programs.plugin.flags()), "}", "",
            "_etcd_envelope_commands() {", "    local -a commands=("]
    out += [f"        '{zsh_quote(name)}:{zsh_quote(text)}'" for name, text in programs.said.items()]
    out += ["    )", "    _describe command commands", "}", "", "_etcd_envelope() {",
            f"    if [[ $service == {PLUGIN} ]]; then", "        _etcd_envelope_local_kms",
            "    elif (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then", "        _etcd_envelope_commands",
            "    elif [[ $words[2] == -* ]]; then", "        _etcd_envelope_serve",
            "    elif (( $+functions[_etcd_envelope_$words[2]] )); then",
            "        local command=$words[2]", "        shift words", "        (( CURRENT-- ))",
            "        _etcd_envelope_$command", "    fi", "}", "", '_etcd_envelope "$@"']
    return "\n".join(out) + "\n"


def fish_flag(program, condition, flag):
    text = short(flag.text).replace("\\", "\\\\").replace("'", "\\'")
    value = ""
    if flag.words():
        value = f" -x -a '{' '.join(flag.words())}'"
    elif flag.is_file():
        value = " -r -F"
    elif flag.value:
        value = " -x"
    where = f" -n '{condition}'" if condition else ""
    return f"complete -c {program}{where} -l {flag.name}{value} -d '{text}'"


def make_fish(programs):
    names = " ".join([*programs.said, "help"])
    out = [f"# {SPDX}", f"# {MADE}", "# fish: in a folder of $fish_complete_path.", "", f"complete -c {PROXY} -f"]
    for name, text in programs.said.items():
        said = text.replace("'", "\\'")
        out.append(f"complete -c {PROXY} -n '__fish_is_first_token' -a {name} -d '{said}'")
    for name in programs.commands:
        condition = f"__fish_seen_subcommand_from {name}"
        if name == "serve":
            condition += f"; or not __fish_seen_subcommand_from {names}"
        out += ["", *(fish_flag(PROXY, condition, flag) for flag in programs.flags_of(name))]
    out += ["", f"complete -c {PLUGIN} -f", *(fish_flag(PLUGIN, "", flag) for flag in programs.plugin.flags())]
    return "\n".join(out) + "\n"


# --- all of it ---

def make(programs):
    """{path: text}."""
    made = {HERE / "etcd-envelope.yaml": make_yaml(programs),
            HERE / "completion" / "etcd-envelope.bash": make_bash(programs),
            HERE / "completion" / "_etcd-envelope": make_zsh(programs),
            HERE / "completion" / "etcd-envelope.fish": make_fish(programs)}
    for path in sorted((HERE / "man").glob("*.scd")):
        made[path] = make_man(path, programs)
    for name in programs.commands:
        if f"\n; flags of {name}\n" not in made[HERE / "man" / f"{PROXY}.1.scd"]:
            sys.exit(f"conf/man/{PROXY}.1.scd has no section with \"; flags of {name}\" and \"; end\"")
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-dir", type=pathlib.Path, default=HERE.parent / "build" / "dev", help="where the programs are")
    parser.add_argument("--check", action="store_true", help="write nothing, say what is out of date")
    options = parser.parse_args()
    bad = 0
    for path, text in make(Programs(options.build_dir)).items():
        old = path.read_text() if path.exists() else ""
        if old == text:
            continue
        bad += 1
        if options.check:
            name = path.relative_to(HERE.parent)
            print(f"{name} is out of date: run conf/flags.py")
            print("".join(list(difflib.unified_diff(old.splitlines(True), text.splitlines(True), "kept", "--help"))[:40]))
        else:
            path.write_text(text)
    return 1 if bad and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
