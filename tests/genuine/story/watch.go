// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func eventsText(r clientv3.WatchResponse) string {
	text := ""
	for _, e := range r.Events {
		text += fmt.Sprintf(" %v %s prev %s", e.Type, kvText(e.Kv), kvText(e.PrevKv))
	}
	return text
}

// listen takes responses until it has n events, or the watch ends.
func listen(name string, w clientv3.WatchChan, n int) {
	limit, last := time.After(60*time.Second), int64(0)
	for n > 0 {
		select {
		case r, ok := <-w:
			if !ok {
				say("%s: over", name)
				return
			}
			if r.Err() != nil {
				say("%s: %s compacted %d", name, verdict(r.Err()), rev(r.CompactRevision))
				return
			}
			if r.IsProgressNotify() || r.Created {
				say("%s: created %v progress %v", name, r.Created, r.IsProgressNotify())
			}
			if len(r.Events) > 0 && r.Events[0].Kv.ModRevision == last {
				say("%s: revision %d came in two", name, rev(last))
			}
			for _, e := range r.Events {
				say("%s: %v %s prev %s", name, e.Type, kvText(e.Kv), kvText(e.PrevKv))
				last = e.Kv.ModRevision
				n--
			}
		case <-limit:
			say("%s: nothing for a minute", name)
			return
		}
	}
}

func created(c *clientv3.Client, ctx context.Context, name, key string, o ...clientv3.OpOption) clientv3.WatchChan {
	w := c.Watch(ctx, key, append(o, clientv3.WithCreatedNotify())...)
	select {
	case r := <-w:
		say("%s: created %v %s", name, r.Created, verdict(r.Err()))
	case <-time.After(60 * time.Second):
		say("%s: not created for a minute", name)
	}
	return w
}

func tellWatch(c *clientv3.Client) {
	begin(c)
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(context.Background()))
	one := created(c, ctx, "one", base+"a")
	all := created(c, ctx, "all", base, clientv3.WithPrefix(), clientv3.WithPrevKV())
	puts := created(c, ctx, "puts", base, clientv3.WithPrefix(), clientv3.WithFilterDelete())
	deletes := created(c, ctx, "deletes", base, clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithPrevKV())
	every := created(c, ctx, "every", "", clientv3.WithFromKey(), clientv3.WithProgressNotify())
	put(c, base+"a", "one")
	put(c, base+"a", "two")
	put(c, base+"b", strings.Repeat("b", 100000))
	del(c, base+"a")
	put(c, "plain", "text")
	r, err := c.Txn(context10()).Then(clientv3.OpPut(base+"c", "1"), clientv3.OpPut(base+"d", "2"), clientv3.OpDelete(base+"b")).Commit()
	say("txn: %s", txnText(r, err))
	listen("one", one, 3)
	listen("all", all, 7)
	listen("puts", puts, 5)
	listen("deletes", deletes, 2)
	listen("every", every, 8)
	cancel()
	for _, w := range []clientv3.WatchChan{one, all, puts, deletes, every} {
		for r := range w {
			say("after the end: %s%s", verdict(r.Err()), eventsText(r))
		}
	}
}

func tellManyWatches(c *clientv3.Client) {
	begin(c)
	const n = 400
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make([]string, n)
	var ready, done sync.WaitGroup
	for i := 0; i < n; i++ {
		ready.Add(1)
		done.Add(1)
		go func(i int) {
			defer done.Done()
			w := c.Watch(ctx, fmt.Sprintf("%s%03d", base, i%50), clientv3.WithCreatedNotify(), clientv3.WithPrevKV())
			<-w
			ready.Done()
			for events := 0; events < 3; {
				r, ok := <-w
				if !ok || r.Err() != nil {
					got[i] += " " + verdict(r.Err())
					return
				}
				events += len(r.Events)
				got[i] += eventsText(r)
			}
		}(i)
	}
	ready.Wait()
	for round := 0; round < 3; round++ {
		for i := 0; i < 50; i++ {
			if _, err := c.Put(context10(), fmt.Sprintf("%s%03d", base, i), fmt.Sprint("round ", round)); err != nil {
				say("put: %s", verdict(err))
			}
		}
	}
	done.Wait()
	for i := range got {
		say("%d:%s", i, got[i])
	}
}

func tellOldWatch(c *clientv3.Client) {
	begin(c)
	for i := 0; i < 20; i++ {
		put(c, base+"o", fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	listen("from 5", c.Watch(ctx, base+"o", clientv3.WithRev(first+5), clientv3.WithPrevKV()), 16)
	if _, err := c.Compact(context10(), first+10); err != nil {
		say("compact: %s", verdict(err))
	}
	listen("compacted", c.Watch(ctx, base+"o", clientv3.WithRev(first+5)), 16)
	listen("kept", c.Watch(ctx, base+"o", clientv3.WithRev(first+11)), 10)
	future := c.Watch(ctx, base+"o", clientv3.WithRev(first+23))
	for i := 0; i < 5; i++ {
		put(c, base+"o", fmt.Sprint("later ", i))
	}
	listen("future", future, 3)
}

func tellFragment(c *clientv3.Client) {
	begin(c)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := 0; i < 12; i++ {
		put(c, fmt.Sprintf("%s%02d", base, i), strings.Repeat(fmt.Sprint(i%10), 400000))
	}
	var ops []clientv3.Op
	for i := 0; i < 14; i++ {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%02d", base, i), strings.Repeat(fmt.Sprint(i%10), 99999)))
	}
	r, err := c.Txn(context10()).Then(ops...).Commit()
	say("one revision: %s", txnText(r, err))
	for _, o := range [][]clientv3.OpOption{{clientv3.WithFragment()}, {}, {clientv3.WithFragment(), clientv3.WithPrevKV()}} {
		w := c.Watch(ctx, base, append(o, clientv3.WithPrefix(), clientv3.WithRev(first+1))...)
		listen("large", w, 26)
	}
}

func tellProgress(c *clientv3.Client) {
	begin(c)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := created(c, ctx, "asked", base, clientv3.WithPrefix())
	put(c, base+"p", "x")
	listen("asked", w, 1)
	for i := 0; i < 5; i++ {
		put(c, "elsewhere", fmt.Sprint(i))
		// Only watches that are synced are told; etcd says nothing where one is not.
		for told, tries := false, 0; !told && tries < 100; tries++ {
			if err := c.RequestProgress(ctx); err != nil {
				say("request: %s", verdict(err))
			}
			select {
			case r := <-w:
				told = r.IsProgressNotify()
			case <-time.After(time.Second):
			}
			if told {
				say("progress")
			}
		}
	}
}

func tellRewatch(c *clientv3.Client) {
	begin(c)
	for i := 0; i < 100; i++ {
		ctx, cancel := context.WithCancel(context.Background())
		w := c.Watch(ctx, base+"w", clientv3.WithCreatedNotify())
		<-w
		if i%2 == 0 {
			put(c, base+"w", fmt.Sprint(i))
			listen("round", w, 1)
		}
		cancel()
		for r := range w {
			say("after the end: %s", eventsText(r))
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, open := <-c.Watch(cancelled, base+"w")
	say("cancelled before: %v", open)
	w := c.Watch(context.Background(), base+"w", clientv3.WithCreatedNotify())
	<-w
	say("close: %s", verdict(c.Watcher.Close()))
	_, open = <-w
	say("after close: %v", open)
}

func tellLeases(c *clientv3.Client) {
	begin(c)
	for _, id := range []int64{11, 12, 13} {
		r, err := c.Lease.Grant(context10(), 600)
		if err != nil {
			fatal(err)
		}
		put(c, fmt.Sprint(base, "leased", id), "x", clientv3.WithLease(r.ID))
		t, err := c.TimeToLive(context10(), r.ID, clientv3.WithAttachedKeys())
		say("ttl: granted %d left %v keys %q %s", t.GrantedTTL, t.TTL > 500, t.Keys, verdict(err))
		k, err := c.KeepAliveOnce(context10(), r.ID)
		say("keep: %d %s", k.TTL, verdict(err))
		l, err := c.Leases(context10())
		say("leases: %d %s", len(l.Leases), verdict(err))
		put(c, fmt.Sprint(base, "leased", id), "", clientv3.WithIgnoreLease(), clientv3.WithIgnoreValue())
		_, err = c.Revoke(context10(), r.ID)
		say("revoke: %s", verdict(err))
		get(c, fmt.Sprint(base, "leased", id))
		_, err = c.Revoke(context10(), r.ID)
		say("again: %s", verdict(err))
		_, err = c.KeepAliveOnce(context10(), r.ID)
		say("keep: %s", verdict(err))
		t, err = c.TimeToLive(context10(), r.ID)
		say("ttl: %d %s", t.TTL, verdict(err))
	}
	_, err := c.Grant(context10(), 1<<50)
	say("too long: %s", verdict(err))
	_, err = c.Grant(context10(), -1)
	say("negative: %s", verdict(err))
	r, err := c.Grant(context10(), 2)
	say("short: %s", verdict(err))
	put(c, base+"short", "x", clientv3.WithLease(r.ID))
	w := c.Watch(context.Background(), base+"short", clientv3.WithRev(first+1), clientv3.WithPrevKV())
	for n := 0; n < 2; {
		for _, e := range (<-w).Events {
			say("expiry: %v %v", e.Type, e.PrevKv != nil)
			n++
		}
	}
}

func tellKeepAlive(c *clientv3.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	ids := []clientv3.LeaseID{}
	for i := 0; i < 50; i++ {
		r, err := c.Grant(context10(), 3)
		if err != nil {
			say("grant: %s", verdict(err))
			continue
		}
		ids = append(ids, r.ID)
		ch, err := c.KeepAlive(ctx, r.ID)
		if err != nil {
			say("keep: %s", verdict(err))
			continue
		}
		go func() {
			for range ch {
			}
		}()
	}
	time.Sleep(8 * time.Second)
	alive := []int{}
	for i, id := range ids {
		if t, err := c.TimeToLive(context10(), id); err == nil && t.TTL > 0 {
			alive = append(alive, i)
		}
	}
	sort.Ints(alive)
	say("alive: %v", alive)
	cancel()
	for _, id := range ids {
		if _, err := c.Revoke(context10(), id); err != nil {
			say("revoke: %s", verdict(err))
		}
	}
}
