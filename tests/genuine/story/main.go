// SPDX-License-Identifier: Apache-2.0

// story does with etcd's own Go client what clients do, and prints what each call was answered, without what differs
// from one etcd to the next (ids, times). tests/genuine.sh compares the story of an etcd with that of an etcd behind
// etcd-envelope: every difference is a fault, but for those that tests/README.md names.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"
)

const base = "/registry/secrets/default/"

var (
	endpoints = flag.String("endpoints", "http://127.0.0.1:2379", "of what to ask, separated by commas")
	ca        = flag.String("cacert", "", "authority of the server's certificate")
	cert      = flag.String("cert", "", "client certificate")
	key       = flag.String("key", "", "its key")
	only      = flag.String("only", "", "chapters, separated by commas")
	idle      = flag.Duration("idle", 0, "how long the chapter idle waits")
)

type chapter struct {
	name string
	tell func(c *clientv3.Client)
}

var chapters = []chapter{
	{"kv", tellKV}, {"ranges", tellRanges}, {"txn", tellTxn}, {"errors", tellErrors}, {"compaction", tellCompaction},
	{"leases", tellLeases}, {"keepalive", tellKeepAlive}, {"watch", tellWatch}, {"many", tellManyWatches},
	{"oldwatch", tellOldWatch}, {"fragment", tellFragment}, {"progress", tellProgress}, {"rewatch", tellRewatch},
	{"maintenance", tellMaintenance}, {"cluster", tellCluster}, {"concurrency", tellConcurrency}, {"stm", tellSTM},
	{"mirror", tellMirror}, {"naming", tellNaming}, {"ordering", tellOrdering}, {"leasing", tellLeasing},
	{"large", tellLarge}, {"thousands", tellThousands}, {"kubernetes", tellKubernetes}, {"storm", tellStorm}, {"cancelstorm", tellCancelStorm},
	{"watchstorm", tellWatchStorm}, {"idle", tellIdle}, {"auth", tellAuth},
}

func say(format string, a ...interface{}) { fmt.Printf(format+"\n", a...) }

func context10() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	time.AfterFunc(70*time.Second, cancel)
	return ctx
}

// verdict is an error as a program sees it: its code and its text.
func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	if s, ok := status.FromError(err); ok {
		return fmt.Sprintf("%v %q", s.Code(), s.Message())
	}
	return fmt.Sprintf("%T %q", err, err.Error())
}

func config() clientv3.Config {
	c := clientv3.Config{
		Endpoints: strings.Split(*endpoints, ","), DialTimeout: 20 * time.Second,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 10 * time.Second, PermitWithoutStream: true,
		MaxCallSendMsgSize: 64 << 20, MaxCallRecvMsgSize: 512 << 20,
	}
	if *ca != "" {
		c.TLS = tlsConfig()
	}
	return c
}

func tlsConfig() *tls.Config {
	info := transport.TLSInfo{CertFile: *cert, KeyFile: *key, TrustedCAFile: *ca}
	t, err := info.ClientConfig()
	if err != nil {
		fatal(err)
	}
	return t
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func connect(user, password string) *clientv3.Client {
	c := config()
	c.Username, c.Password = user, password
	client, err := clientv3.New(c)
	if err != nil {
		fatal(err)
	}
	return client
}

func wanted(name string) bool {
	if *only == "" {
		return true
	}
	names := strings.Split(*only, ",")
	sort.Strings(names)
	i := sort.SearchStrings(names, name)
	return i < len(names) && names[i] == name
}

func main() {
	flag.Parse()
	for _, ch := range chapters {
		if !wanted(ch.name) {
			continue
		}
		client := connect("", "")
		say("== %s", ch.name)
		begun := time.Now()
		ch.tell(client)
		// What is left over would make the next chapter's answers depend on this one's.
		_, err := client.Delete(context10(), "", clientv3.WithFromKey())
		say("swept %s; closed %s", verdict(err), verdict(client.Close()))
		fmt.Fprintf(os.Stderr, "%s: %v\n", ch.name, time.Since(begun).Round(time.Millisecond))
	}
}
