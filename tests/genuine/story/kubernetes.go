// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// tellKubernetes goes by the calls that kube-apiserver makes since 1.33, and has writers of the same objects race.
func tellKubernetes(c *clientv3.Client) {
	begin(c)
	k, err := kubernetes.New(config())
	if err != nil {
		fatal(err)
	}
	defer k.Close()
	for i := 0; i < 25; i++ {
		r, err := k.OptimisticPut(context10(), fmt.Sprintf("%s%02d", base, i), []byte(fmt.Sprint("object ", i)), 0, kubernetes.PutOptions{})
		say("create: %v r%d %s", r.Succeeded, rev(r.Revision), verdict(err))
	}
	for _, expected := range []int64{0, 1, 2, 1 << 40} {
		r, err := k.OptimisticPut(context10(), base+"01", []byte("changed"), first+expected, kubernetes.PutOptions{GetOnFailure: true})
		say("put at %d: %v %s %s", expected, r.Succeeded, kvText(r.KV), verdict(err))
		d, err := k.OptimisticDelete(context10(), base+"02", first+expected, kubernetes.DeleteOptions{GetOnFailure: true})
		say("delete at %d: %v %s %s", expected, d.Succeeded, kvText(d.KV), verdict(err))
	}
	for next := ""; ; {
		r, err := k.List(context10(), base, kubernetes.ListOptions{Revision: first + 25, Limit: 7, Continue: next})
		say("list: count %d %s %s", r.Count, kvsText(r.Kvs), verdict(err))
		if err != nil || len(r.Kvs) == 0 || r.Count <= int64(len(r.Kvs)) {
			break
		}
		next = string(r.Kvs[len(r.Kvs)-1].Key)
	}
	n, err := k.Count(context10(), base, kubernetes.CountOptions{})
	say("count: %d %s", n, verdict(err))
	g, err := k.Get(context10(), base+"03", kubernetes.GetOptions{Revision: first + 3})
	say("get: %s %s", kvText(g.KV), verdict(err))
	g, err = k.Get(context10(), base+"03", kubernetes.GetOptions{})
	say("get: %s %s", kvText(g.KV), verdict(err))
	raceKubernetes(k)
}

func raceKubernetes(k *kubernetes.Client) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for w := 0; w < 10; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for done := 0; done < 10; {
				g, err := k.Get(context10(), base+"race", kubernetes.GetOptions{})
				seen, sum := int64(0), 0
				if err == nil && g.KV != nil {
					seen = g.KV.ModRevision
					fmt.Sscan(string(g.KV.Value), &sum)
				}
				r, err := k.OptimisticPut(context10(), base+"race", []byte(fmt.Sprint(sum+1)), seen, kubernetes.PutOptions{GetOnFailure: true})
				if err != nil {
					say("race: %s", verdict(err))
					return
				}
				if r.Succeeded {
					mu.Lock()
					won++
					mu.Unlock()
					done++
				}
			}
		}()
	}
	wg.Wait()
	g, err := k.Get(context10(), base+"race", kubernetes.GetOptions{})
	say("race: %d won, value %s %s", won, g.KV.Value, verdict(err))
}
