// SPDX-License-Identifier: Apache-2.0

// This file is laid into the package `integration` of etcd, whose clusters run within a test: it puts an etcd-envelope in
// front of each member's gRPC listener. tests/genuine.sh changes the lines of etcd's that call it.
// ENVELOPE_PROGRAM names the proxy, ENVELOPE_FLAGS what it is told besides, ENVELOPE_LOGS the folder of its logs.
// Without ENVELOPE_PROGRAM the tests run straight against etcd.

package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

var envelopes = struct {
	sync.Mutex
	byAddress map[string]*exec.Cmd
}{byAddress: map[string]*exec.Cmd{}}

// envelopeListen says where the proxy in front of address listens: beside it.
func envelopeListen(network, address string) (string, error) {
	if network != "tcp" {
		return address + "7", nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return fmt.Sprintf("%s:%d", host, l.Addr().(*net.TCPAddr).Port), nil
}

// envelopeURL leaves the path of a socket relative, since the absolute ones of tests are too long for an address.
func envelopeURL(network, address string, isTLS bool) string {
	scheme := map[string]string{"tcpfalse": "http", "tcptrue": "https", "unixfalse": "unix", "unixtrue": "unixs"}
	return scheme[fmt.Sprint(network, isTLS)] + map[string]string{"tcp": "://", "unix": ":"}[network] + address
}

func envelopeWait(network, address string) error {
	for i := 0; i < 1000; i++ {
		if c, err := net.Dial(network, address); err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("no etcd-envelope at %s", address)
}

// throughEnvelope gives the address of a proxy in front of the one given, which runs until endEnvelope. tls: certificate,
// key and authority of the member's client side, or nothing.
func throughEnvelope(network, address string, tls ...string) (string, error) {
	program := os.Getenv("ENVELOPE_PROGRAM")
	if program == "" {
		return address, nil
	}
	envelopes.Lock()
	defer envelopes.Unlock()
	if cmd := envelopes.byAddress[address]; cmd != nil {
		return cmd.Args[1], nil
	}
	listen, err := envelopeListen(network, address)
	if err != nil {
		return "", err
	}
	from, to := envelopeURL(network, listen, len(tls) > 0), envelopeURL(network, address, len(tls) > 0)
	args := append([]string{"serve", "--listen-client-urls", from, "--etcd-servers", to, "--listen-metrics-urls", ""},
		strings.Fields(os.Getenv("ENVELOPE_FLAGS"))...)
	if len(tls) > 0 {
		args = append(args, "--cert-file", tls[0], "--key-file", tls[1], "--trusted-ca-file", tls[2],
			"--etcd-certfile", tls[0], "--etcd-keyfile", tls[1], "--etcd-cafile", tls[2])
	}
	log, err := os.CreateTemp(os.Getenv("ENVELOPE_LOGS"), "envelope-*.log")
	if err != nil {
		return "", err
	}
	defer log.Close()
	fmt.Fprintln(log, args)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err = cmd.Start(); err != nil {
		return "", err
	}
	cmd.Args = []string{address, listen}
	envelopes.byAddress[address] = cmd
	return listen, envelopeWait(network, listen)
}

// endEnvelope ends the proxy in front of address.
func endEnvelope(address string) {
	envelopes.Lock()
	defer envelopes.Unlock()
	if cmd := envelopes.byAddress[address]; cmd != nil {
		delete(envelopes.byAddress, address)
		cmd.Process.Kill()
		cmd.Wait()
		os.Remove(cmd.Args[1])
	}
}

// envelopeMembers leaves out what member lists show of the proxy's own.
func envelopeMembers(urls []string) []string {
	if os.Getenv("ENVELOPE_PROGRAM") == "" || len(urls) == 0 {
		return urls
	}
	return nil
}

func envelopeNamespace() string { return os.Getenv("ENVELOPE_NAMESPACE") }
