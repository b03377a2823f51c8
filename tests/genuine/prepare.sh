#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run by tests/genuine.sh in a Debian 13 of its own: builds from Debian's packages and sources what is to be run through
# the proxy, statically linked, into /genuine/bin. What is there already is left alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export GOPROXY=off GOTOOLCHAIN=local GO111MODULE=off CGO_ENABLED=0 GOFLAGS='' PATH=/usr/lib/go/bin:$PATH
etcd_tests='clientv3 clientv3/connectivity clientv3/lease clientv3/concurrency clientv3/naming clientv3/experimental/recipes . proxy/grpcproxy'
mkdir -p /genuine/bin

say() { printf 'genuine: %s\n' "$*"; }

# Kubernetes' whole source is in Debian 12; later ones have kubectl's only.
if ! grep -qs bookworm /etc/apt/sources.list.d/genuine.list; then
    sed -n 's/^deb \(.*\) trixie main.*/deb-src \1 bookworm main/p' /etc/apt/sources.list >/etc/apt/sources.list.d/genuine.list
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends golang-go golang-etcd-server-dev dpkg-dev \
        golang-github-modern-go-reflect2-dev patch xz-utils python3 >/dev/null
fi

build() { # output, package, flags...
    local out=/genuine/bin/$1 package=$2
    shift 2
    [ -e "$out" ] || { say "building ${out##*/}" && nice -n 10 go "$@" -o "$out" "$package"; }
}

build_etcd() {
    local name
    export GOPATH=/genuine/gopath:/usr/share/gocode
    if [ ! -e /genuine/gopath/src/go.etcd.io ]; then
        mkdir -p /genuine/gopath/src/go.etcd.io
        cp -r /usr/share/gocode/src/go.etcd.io/etcd /genuine/gopath/src/go.etcd.io/
    fi
    rm -rf /genuine/gopath/src/story
    cp -r "$here/story" /genuine/gopath/src/
    cd /genuine/gopath/src/story
    go build -o /genuine/bin/story .
    cd /genuine/gopath/src/go.etcd.io/etcd/tests/integration
    python3 "$here/lay.py" .
    for package in $etcd_tests; do
        name=$(printf %s "$package" | tr / _)
        [ "$package" != . ] || name=integration
        build "etcd-$name" "./$package" test -c -vet=off
    done
}

build_kubernetes() {
    local source=/genuine/kubernetes/src/k8s.io/kubernetes name package
    export GOPATH=/genuine/kubernetes
    if [ ! -e "$source" ]; then
        mkdir -p "${source%/*}" /genuine/download
        cd /genuine/download
        apt-get -qq source --download-only kubernetes/bookworm
        dpkg-source --no-check -x kubernetes_*.dsc "$source.new" >/dev/null
        # Its own reflect2 walks through maps as Go did before 1.18: the first custom resource would be a crash.
        rm -r "$source.new/vendor/github.com/modern-go/reflect2"
        cp -rL /usr/share/gocode/src/github.com/modern-go/reflect2 "$source.new/vendor/github.com/modern-go/"
        mv "$source.new" "$source"
    fi
    cd "$source"
    python3 "$here/lay.py" vendor/go.etcd.io/etcd/integration
    generate_openapi
    while read -r name package; do
        build "kubernetes-$name" "./$package" test -c -vet=off
    done <"$here/kubernetes.txt"
    build kube-apiserver ./cmd/kube-apiserver build -tags providerless
}

# pkg/generated/openapi has no Go file before its generator has run.
generate_openapi() {
    local out=pkg/generated/openapi tag='+k8s:openapi-gen=' dirs
    [ ! -e "$out/zz_generated.openapi.go" ] || return 0
    build openapi-gen ./vendor/k8s.io/kube-openapi/cmd/openapi-gen build
    dirs=$(grep -rl --include='*.go' -e "$tag" pkg plugin cmd | xargs -n 1 dirname
        cd staging/src && grep -rl --include='*.go' -e "$tag" k8s.io | grep -v -e code-generator/ -e sample-apiserver |
            xargs -n 1 dirname | sed 's,^,vendor/,')
    /genuine/bin/openapi-gen --logtostderr --output-base "$GOPATH/src" -O zz_generated.openapi -p "k8s.io/kubernetes/$out" \
        -h hack/boilerplate/boilerplate.generatego.txt -r /genuine/openapi.report \
        -i "$(printf %s "$dirs" | sort -u | sed 's,^,k8s.io/kubernetes/,' | tr '\n' ',' | sed 's/,$//')"
}

build_etcd
build_kubernetes
