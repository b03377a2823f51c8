// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	naming "go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/ordering"
)

func tellMaintenance(c *clientv3.Client) {
	begin(c)
	for i := 0; i < 300; i++ {
		if _, err := c.Put(context10(), fmt.Sprint(base, i), strings.Repeat("s", 10000)); err != nil {
			say("put: %s", verdict(err))
		}
	}
	endpoint := c.Endpoints()[0]
	s, err := c.Status(context10(), endpoint)
	say("status: %s %s size %v in use %v leader %v learner %v errors %q", verdict(err), s.Version, s.DbSize > 3000000,
		s.DbSizeInUse > 3000000, s.Leader != 0, s.IsLearner, s.Errors)
	h, err := c.HashKV(context10(), endpoint, 0)
	say("hash: %s %v", verdict(err), h.Hash != 0)
	_, err = c.HashKV(context10(), endpoint, 1<<40)
	say("hash of the future: %s", verdict(err))
	a, err := c.AlarmList(context10())
	say("alarms: %s %d", verdict(err), len(a.Alarms))
	_, err = c.AlarmDisarm(context10(), &clientv3.AlarmMember{})
	say("disarm: %s", verdict(err))
	_, err = c.Defragment(context10(), endpoint)
	say("defragment: %s", verdict(err))
	snapshot, err := c.Snapshot(context10())
	if err != nil {
		say("snapshot: %s", verdict(err))
		return
	}
	n, err := io.Copy(io.Discard, snapshot)
	say("snapshot: %v %v %s", n > 3000000, n%512, verdict(err))
	_, err = c.MoveLeader(context10(), 4711)
	say("move leader: %s", verdict(err))
}

func tellCluster(c *clientv3.Client) {
	r, err := c.MemberList(context10())
	if err != nil {
		say("members: %s", verdict(err))
		return
	}
	for _, m := range r.Members {
		say("member: %s learner %v client URLs %d", m.Name, m.IsLearner, len(m.ClientURLs))
	}
	say("sync: %s", verdict(c.Sync(context10())))
	put(c, base+"synced", "x")
	_, err = c.MemberRemove(context10(), 4711)
	say("remove: %s", verdict(err))
	_, err = c.MemberPromote(context10(), 4711)
	say("promote: %s", verdict(err))
	_, err = c.MemberUpdate(context10(), 4711, []string{"http://127.0.0.1:1"})
	say("update: %s", verdict(err))
}

func session(c *clientv3.Client) *concurrency.Session {
	s, err := concurrency.NewSession(c, concurrency.WithTTL(20))
	if err != nil {
		fatal(err)
	}
	return s
}

func tellConcurrency(c *clientv3.Client) {
	var wg sync.WaitGroup
	inside, most := 0, 0
	for i := 0; i < 10; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s := session(c)
			defer s.Close()
			m := concurrency.NewMutex(s, base+"lock")
			if err := m.Lock(context10()); err != nil {
				say("lock: %s", verdict(err))
				return
			}
			if inside++; inside > most {
				most = inside
			}
			inside--
			if err := m.Unlock(context10()); err != nil {
				say("unlock: %s", verdict(err))
			}
		}()
	}
	wg.Wait()
	say("inside at most: %d", most)
	s := session(c)
	m := concurrency.NewMutex(s, base+"try")
	say("try: %s", verdict(m.TryLock(context10())))
	other := session(c)
	say("second: %s", verdict(concurrency.NewMutex(other, base+"try").TryLock(context10())))
	e := concurrency.NewElection(s, base+"elect")
	say("campaign: %s", verdict(e.Campaign(context10(), "me")))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	observed := e.Observe(ctx)
	say("observed: %s", (<-observed).Kvs[0].Value)
	say("proclaim: %s", verdict(e.Proclaim(context10(), "still me")))
	say("observed: %s", (<-observed).Kvs[0].Value)
	say("resign: %s", verdict(e.Resign(context10())))
	say("campaign: %s", verdict(concurrency.NewElection(other, base+"elect").Campaign(context10(), "other")))
	say("observed: %s", (<-observed).Kvs[0].Value)
	say("closed: %s %s", verdict(s.Close()), verdict(other.Close()))
}

func tellSTM(c *clientv3.Client) {
	var wg sync.WaitGroup
	put(c, base+"sum", "0")
	for i := 0; i < 8; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; n < 20; n++ {
				_, err := concurrency.NewSTM(c, func(s concurrency.STM) error {
					sum := 0
					fmt.Sscan(s.Get(base+"sum"), &sum)
					s.Put(base+"sum", fmt.Sprint(sum+1))
					return nil
				}, concurrency.WithIsolation(concurrency.SerializableSnapshot))
				if err != nil {
					say("stm: %s", verdict(err))
				}
			}
		}()
	}
	wg.Wait()
	r, err := c.Get(context10(), base+"sum")
	say("sum: %s %s", r.Kvs[0].Value, verdict(err))
}

func tellMirror(c *clientv3.Client) {
	begin(c)
	for i := 0; i < 2500; i++ {
		if _, err := c.Put(context10(), fmt.Sprintf("%s%04d", base, i), fmt.Sprint(i)); err != nil {
			say("put: %s", verdict(err))
		}
	}
	s := mirror.NewSyncer(c, base, 0)
	answers, errs := s.SyncBase(context10())
	for r := range answers {
		say("base: %s", kvsText(r.Kvs))
	}
	for err := range errs {
		say("base: %s", verdict(err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	updates := s.SyncUpdates(ctx)
	put(c, base+"later", "x")
	listen("updates", updates, 1)
}

func tellNaming(c *clientv3.Client) {
	m, err := naming.NewManager(c, base+"service")
	if err != nil {
		fatal(err)
	}
	say("add: %s", verdict(m.AddEndpoint(context10(), base+"service/a", naming.Endpoint{Addr: "127.0.0.1:1"})))
	list, err := m.List(context10())
	say("list: %v %s", list, verdict(err))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w, err := m.NewWatchChannel(ctx)
	say("watch: %s", verdict(err))
	say("updates: %d", len(<-w))
	say("delete: %s", verdict(m.DeleteEndpoint(context10(), base+"service/a")))
	say("updates: %d", len(<-w))
}

func tellOrdering(c *clientv3.Client) {
	begin(c)
	kv := ordering.NewKV(c.KV, ordering.NewOrderViolationSwitchEndpointClosure(c))
	_, err := kv.Put(context10(), base+"ordered", "x")
	say("put: %s", verdict(err))
	r, err := kv.Get(context10(), base+"ordered")
	say("get: %s %s", kvsText(r.Kvs), verdict(err))
}

func tellLeasing(c *clientv3.Client) {
	begin(c)
	kv, closeKV, err := leasing.NewKV(c, base+"leasing/")
	if err != nil {
		say("leasing: %s", verdict(err))
		return
	}
	defer closeKV()
	for i := 0; i < 3; i++ {
		_, err = kv.Put(context10(), base+"l", fmt.Sprint(i))
		say("put: %s", verdict(err))
		r, err := kv.Get(context10(), base+"l")
		say("get: %s %s", short(r.Kvs[0].Value), verdict(err))
	}
}

func tellLarge(c *clientv3.Client) {
	begin(c)
	for i, size := range []int{1, 16 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, 1400000} {
		key := fmt.Sprintf("%s%02d", base, i)
		value := strings.Repeat("0123456789", size/10+1)[:size]
		put(c, key, value)
		get(c, key)
		put(c, key, value+"!", clientv3.WithPrevKV())
	}
	get(c, base, clientv3.WithPrefix())
	for i := 0; i < 60; i++ {
		put(c, fmt.Sprintf("%smany%02d", base, i), strings.Repeat(fmt.Sprint(i%10), 1000000))
	}
	var wg sync.WaitGroup
	answers := make([]string, 4)
	for i := range answers {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			r, err := c.Get(context10(), base+"many", clientv3.WithPrefix())
			if answers[i] = verdict(err); err == nil {
				answers[i] = kvsText(r.Kvs)
			}
		}(i)
	}
	wg.Wait()
	for _, a := range answers {
		say("60 MB: %s", a)
	}
}

func tellThousands(c *clientv3.Client) {
	begin(c)
	var wg sync.WaitGroup
	for w := 0; w < 50; w++ {
		wg.Add(1)
		go func(w int) {
			defer wg.Done()
			for i := 0; i < 100; i++ {
				if _, err := c.Put(context10(), fmt.Sprintf("%s%05d", base, w*100+i), strings.Repeat("v", w*20)); err != nil {
					say("put: %s", verdict(err))
				}
			}
		}(w)
	}
	wg.Wait()
	for key, pages := base, 0; pages < 20; pages++ {
		r, err := c.Get(context10(), key, clientv3.WithRange(clientv3.GetPrefixRangeEnd(base)), clientv3.WithLimit(500), clientv3.WithRev(first+5000))
		if err != nil {
			say("page: %s", verdict(err))
			return
		}
		say("page: count %d more %v of %d", r.Count, r.More, len(r.Kvs))
		for _, kv := range r.Kvs {
			say("%s %s", kv.Key, short(kv.Value))
		}
		if !r.More {
			return
		}
		key = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// tellStorm has most calls end by their client's deadline, in all places; whatever happened to them, later ones work.
func tellStorm(c *clientv3.Client) {
	begin(c)
	put(c, base+"storm", strings.Repeat("x", 500000))
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[string]bool{}
	for w := 0; w < 100; w++ {
		wg.Add(1)
		go func(w int) {
			defer wg.Done()
			for i := 0; i < 50; i++ {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+i%7)*time.Millisecond)
				var err error
				switch i % 3 {
				case 0:
					_, err = c.Get(ctx, base+"storm")
				case 1:
					_, err = c.Put(ctx, fmt.Sprint(base, "storm/", w), strings.Repeat("y", 1000*i))
				case 2:
					_, err = c.Txn(ctx).Then(clientv3.OpGet(base, clientv3.WithPrefix())).Commit()
				}
				cancel()
				// etcd's own words for a deadline may be quicker than the client's.
				if err != nil && !strings.Contains(err.Error(), "deadline exceeded") && !strings.Contains(err.Error(), "request timed out") {
					mu.Lock()
					codes[verdict(err)] = true
					mu.Unlock()
				}
			}
		}(w)
	}
	wg.Wait()
	for code := range codes {
		say("odd: %s", code)
	}
	for i := 0; i < 100; i++ {
		if _, err := c.Put(context10(), base+"after", fmt.Sprint(i)); err != nil {
			say("after: %s", verdict(err))
		}
	}
	r, err := c.Get(context10(), base+"after")
	say("after: %s %s", short(r.Kvs[0].Value), verdict(err))
}

func tellCancelStorm(c *clientv3.Client) {
	begin(c)
	for i := 0; i < 40; i++ {
		if _, err := c.Put(context10(), fmt.Sprint(base, i), strings.Repeat("x", 500000)); err != nil {
			say("put: %s", verdict(err))
		}
	}
	var wg sync.WaitGroup
	for w := 0; w < 16; w++ {
		wg.Add(1)
		go func(w int) {
			defer wg.Done()
			for i := 0; i < 20; i++ {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(time.Duration(w+i*3)*time.Millisecond, cancel)
				_, err := c.Get(ctx, base, clientv3.WithPrefix())
				if err != nil && err != context.Canceled {
					say("odd: %s", verdict(err))
				}
				cancel()
			}
		}(w)
	}
	wg.Wait()
	r, err := c.Get(context10(), base, clientv3.WithPrefix())
	say("after: %d %s", len(r.Kvs), verdict(err))
}

func tellWatchStorm(c *clientv3.Client) {
	begin(c)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				c.Put(context10(), base+"storm", fmt.Sprint(i))
			}
		}
	}()
	bad := make(chan string, 10000)
	for w := 0; w < 50; w++ {
		wg.Add(1)
		go func(w int) {
			defer wg.Done()
			for i := 0; i < 20; i++ {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+(w*i)%60)*time.Millisecond)
				last := int64(0)
				for r := range c.Watch(ctx, base, clientv3.WithPrefix(), clientv3.WithRev(first+1)) {
					if r.Err() != nil {
						bad <- verdict(r.Err())
					}
					for _, e := range r.Events {
						if last != 0 && e.Kv.ModRevision != last+1 {
							bad <- "a revision was left out"
						}
						last = e.Kv.ModRevision
					}
				}
				cancel()
			}
		}(w)
	}
	wg.Wait()
	close(stop)
	close(bad)
	kinds := map[string]int{}
	for b := range bad {
		kinds[b]++
	}
	names := []string{}
	for k := range kinds {
		names = append(names, k)
	}
	sort.Strings(names)
	say("bad: %v", names)
}

// tellIdle has a connection that only pings itself (PermitWithoutStream), and one whose watch is silent.
func tellIdle(c *clientv3.Client) {
	begin(c)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := created(c, ctx, "idle", base, clientv3.WithPrefix())
	other := connect("", "")
	time.Sleep(*idle)
	put(other, base+"idle", "x")
	put(c, base+"idle", "y")
	listen("idle", w, 2)
	say("closed: %s", verdict(other.Close()))
}

func tellAuth(c *clientv3.Client) {
	begin(c)
	step := func(what string, err error) { say("%s: %s", what, verdict(err)) }
	_, err := c.UserAdd(context10(), "root", "secret")
	step("root", err)
	_, err = c.UserAdd(context10(), "alice", "word")
	step("alice", err)
	_, err = c.UserAdd(context10(), "alice", "word")
	step("again", err)
	_, err = c.RoleAdd(context10(), "root")
	step("role", err)
	_, err = c.RoleAdd(context10(), "reader")
	step("role", err)
	_, err = c.RoleGrantPermission(context10(), "reader", base, clientv3.GetPrefixRangeEnd(base), clientv3.PermissionType(clientv3.PermRead))
	step("grant", err)
	_, err = c.UserGrantRole(context10(), "root", "root")
	step("grant role", err)
	_, err = c.UserGrantRole(context10(), "alice", "reader")
	step("grant role", err)
	put(c, base+"a", "x")
	_, err = c.AuthEnable(context10())
	step("enable", err)
	put(c, base+"a", "nobody")
	get(c, base+"a")
	root, alice := connect("root", "secret"), connect("alice", "word")
	put(root, base+"a", "root")
	put(alice, base+"a", "alice")
	get(alice, base+"a")
	get(alice, base, clientv3.WithPrefix())
	get(alice, "/other")
	del(alice, base+"a")
	ctx, cancel := context.WithCancel(context.Background())
	w := alice.Watch(ctx, base, clientv3.WithPrefix(), clientv3.WithRev(first+1))
	listen("alice", w, 1)
	listen("alice elsewhere", alice.Watch(ctx, "/other"), 1)
	cancel()
	_, err = clientv3.New(func() clientv3.Config { g := config(); g.Username, g.Password = "alice", "wrong"; return g }())
	step("wrong password", err)
	users, err := root.UserList(context10())
	say("users: %v %s", users.Users, verdict(err))
	roles, err := root.UserGet(context10(), "alice")
	say("roles: %v %s", roles.Roles, verdict(err))
	_, err = alice.UserList(context10())
	step("alice lists", err)
	_, err = root.AuthDisable(context10())
	step("disable", err)
	for _, name := range []string{"root", "alice"} {
		_, err = c.UserDelete(context10(), name)
		step("delete "+name, err)
	}
	for _, name := range []string{"root", "reader"} {
		_, err = c.RoleDelete(context10(), name)
		step("delete "+name, err)
	}
	say("closed: %s %s", verdict(root.Close()), verdict(alice.Close()))
}
