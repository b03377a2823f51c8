// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"fmt"
	"strings"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"
)

var first int64 // the revision before the chapter: those that are printed count from it

func rev(r int64) int64 {
	if r <= first {
		return 0
	}
	return r - first
}

func begin(c *clientv3.Client) {
	r, err := c.Get(context10(), "/none")
	if err != nil {
		fatal(err)
	}
	first = r.Header.Revision
}

func short(value []byte) string {
	if len(value) <= 40 {
		return fmt.Sprintf("%q", value)
	}
	return fmt.Sprintf("%d bytes %x", len(value), sha256.Sum256(value))
}

func kvText(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "-"
	}
	return fmt.Sprintf("%s=%s c%d m%d v%d l%x", kv.Key, short(kv.Value), rev(kv.CreateRevision), rev(kv.ModRevision),
		kv.Version, kv.Lease)
}

func kvsText(kvs []*mvccpb.KeyValue) string {
	all := make([]string, len(kvs))
	for i, kv := range kvs {
		all[i] = kvText(kv)
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func put(c *clientv3.Client, key, value string, o ...clientv3.OpOption) {
	r, err := c.Put(context10(), key, value, o...)
	if err != nil {
		say("put %s: %s", key, verdict(err))
		return
	}
	say("put %s: r%d prev %s", key, rev(r.Header.Revision), kvText(r.PrevKv))
}

func get(c *clientv3.Client, key string, o ...clientv3.OpOption) {
	r, err := c.Get(context10(), key, o...)
	if err != nil {
		say("get %s: %s", key, verdict(err))
		return
	}
	say("get %s: r%d count %d more %v %s", key, rev(r.Header.Revision), r.Count, r.More, kvsText(r.Kvs))
}

func del(c *clientv3.Client, key string, o ...clientv3.OpOption) {
	r, err := c.Delete(context10(), key, o...)
	if err != nil {
		say("delete %s: %s", key, verdict(err))
		return
	}
	say("delete %s: r%d %d %s", key, rev(r.Header.Revision), r.Deleted, kvsText(r.PrevKvs))
}

func tellKV(c *clientv3.Client) {
	begin(c)
	for _, prefix := range []string{base, "/registry/pods/default/", "/registry/configmaps/default/", "plain"} {
		put(c, prefix+"a", "one")
		put(c, prefix+"a", "two", clientv3.WithPrevKV())
		put(c, prefix+"empty", "")
		put(c, prefix+"binary", "\x00\xff\x00k8s:enc:kms:v2:x:")
		get(c, prefix+"a")
		get(c, prefix+"empty")
		get(c, prefix, clientv3.WithPrefix())
		put(c, prefix+"a", "", clientv3.WithIgnoreValue(), clientv3.WithPrevKV())
		put(c, prefix+"new", "", clientv3.WithIgnoreValue())
		put(c, prefix+"a", "x", clientv3.WithIgnoreLease())
		get(c, prefix+"a", clientv3.WithSerializable())
		del(c, prefix+"a", clientv3.WithPrevKV())
		del(c, prefix+"a", clientv3.WithPrevKV())
		del(c, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV())
	}
}

func tellRanges(c *clientv3.Client) {
	begin(c)
	for i := 0; i < 30; i++ {
		put(c, fmt.Sprintf("%s%02d", base, (i*7)%30), fmt.Sprint("value ", i))
	}
	for i := 0; i < 10; i++ {
		put(c, fmt.Sprintf("%s%02d", base, i), "again")
	}
	targets := []clientv3.SortTarget{clientv3.SortByKey, clientv3.SortByVersion, clientv3.SortByCreateRevision,
		clientv3.SortByModRevision}
	for _, t := range targets {
		for _, o := range []clientv3.SortOrder{clientv3.SortNone, clientv3.SortAscend, clientv3.SortDescend} {
			get(c, base, clientv3.WithPrefix(), clientv3.WithSort(t, o))
			get(c, base, clientv3.WithPrefix(), clientv3.WithSort(t, o), clientv3.WithLimit(3), clientv3.WithKeysOnly())
		}
	}
	for _, limit := range []int64{0, 1, 2, 29, 30, 31} {
		get(c, base, clientv3.WithPrefix(), clientv3.WithLimit(limit))
		get(c, base, clientv3.WithPrefix(), clientv3.WithLimit(limit), clientv3.WithCountOnly())
	}
	get(c, base+"05", clientv3.WithRange(base+"08"))
	get(c, base+"25", clientv3.WithFromKey(), clientv3.WithLimit(3))
	get(c, "/registry/", clientv3.WithRange("/registry0"), clientv3.WithKeysOnly())
	get(c, "", clientv3.WithFromKey(), clientv3.WithLimit(4))
	for r := int64(1); r < 45; r += 9 {
		get(c, base, clientv3.WithPrefix(), clientv3.WithRev(first+r))
		get(c, base, clientv3.WithPrefix(), clientv3.WithMinModRev(first+r), clientv3.WithMaxModRev(first+r+5))
		get(c, base, clientv3.WithPrefix(), clientv3.WithMinCreateRev(first+r), clientv3.WithMaxCreateRev(first+r+5))
	}
	get(c, base, clientv3.WithFirstKey()...)
	get(c, base, clientv3.WithLastRev()...)
	del(c, base+"05", clientv3.WithRange(base+"08"), clientv3.WithPrevKV())
}

func txnText(r *clientv3.TxnResponse, err error) string {
	if err != nil {
		return verdict(err)
	}
	text := fmt.Sprintf("r%d %v", rev(r.Header.Revision), r.Succeeded)
	for _, one := range r.Responses {
		switch {
		case one.GetResponseRange() != nil:
			text += fmt.Sprintf(" range %d %s", one.GetResponseRange().Count, kvsText(one.GetResponseRange().Kvs))
		case one.GetResponsePut() != nil:
			text += " put " + kvText(one.GetResponsePut().PrevKv)
		case one.GetResponseDeleteRange() != nil:
			text += fmt.Sprintf(" delete %d %s", one.GetResponseDeleteRange().Deleted,
				kvsText(one.GetResponseDeleteRange().PrevKvs))
		case one.GetResponseTxn() != nil:
			text += " (" + txnText((*clientv3.TxnResponse)(one.GetResponseTxn()), nil) + ")"
		}
	}
	return text
}

func tellTxn(c *clientv3.Client) {
	begin(c)
	k := base + "t"
	create := func(value string) {
		r, err := c.Txn(context10()).If(clientv3.Compare(clientv3.ModRevision(k), "=", 0)).
			Then(clientv3.OpPut(k, value)).Else(clientv3.OpGet(k)).Commit()
		say("create: %s", txnText(r, err))
	}
	create("one")
	create("two")
	r, err := c.Txn(context10()).If(clientv3.Compare(clientv3.ModRevision(k), "=", first+1),
		clientv3.Compare(clientv3.Version(k), "<", 2), clientv3.Compare(clientv3.LeaseValue(k), "=", 0)).
		Then(clientv3.OpPut(k, "three", clientv3.WithPrevKV()), clientv3.OpGet(k),
			clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(k), "!=", 0)},
				[]clientv3.Op{clientv3.OpPut(k+"/nested", "four"), clientv3.OpGet(base, clientv3.WithPrefix())},
				[]clientv3.Op{clientv3.OpDelete(k)})).Commit()
	say("update: %s", txnText(r, err))
	r, err = c.Txn(context10()).If(clientv3.Compare(clientv3.Version(base), ">", 0).WithPrefix()).
		Then(clientv3.OpDelete(base, clientv3.WithPrefix(), clientv3.WithPrevKV())).Commit()
	say("range compare: %s", txnText(r, err))
	r, err = c.Txn(context10()).Then(clientv3.OpPut(k, "a"), clientv3.OpPut(k, "b")).Commit()
	say("twice: %s", txnText(r, err))
	r, err = c.Txn(context10()).Commit()
	say("empty: %s", txnText(r, err))
	var ops []clientv3.Op
	for i := 0; i < 129; i++ {
		ops = append(ops, clientv3.OpPut(fmt.Sprint(k, i), strings.Repeat("v", i)))
		if i == 127 {
			r, err = c.Txn(context10()).Then(ops...).Commit()
			say("128: %s", txnText(r, err))
		}
	}
	r, err = c.Txn(context10()).Then(ops...).Commit()
	say("129: %s", txnText(r, err))
	r, err = c.Txn(context10()).If(clientv3.Compare(clientv3.Value("unprotected"), "=", "x")).Else(clientv3.OpGet(k + "1")).Commit()
	say("value of an unprotected key: %s", txnText(r, err))
}

func tellErrors(c *clientv3.Client) {
	begin(c)
	put(c, "", "x")
	get(c, "")
	del(c, "")
	get(c, base, clientv3.WithRev(1<<40))
	put(c, base+"lease", "x", clientv3.WithLease(4711))
	_, err := c.Put(context10(), base+"large", strings.Repeat("x", 2<<20))
	say("put large: %v", status.Code(err)) // the text has the size, which is another one when it is sealed
	put(c, "large", strings.Repeat("x", 2<<20))
	get(c, base+"z", clientv3.WithRange(base+"a"))
	del(c, base+"z", clientv3.WithRange(base+"a"))
	get(c, base, clientv3.WithLimit(-1))
	var r *clientv3.TxnResponse
	r, err = c.Txn(context10()).Then(clientv3.OpGet("")).Commit()
	say("txn: %s", txnText(r, err))
	r, err = c.Txn(context10()).Then(clientv3.OpGet(base, clientv3.WithRev(1<<40))).Commit()
	say("txn: %s", txnText(r, err))
	_, err = c.Compact(context10(), 1<<40)
	say("compact: %s", verdict(err))
}

func tellCompaction(c *clientv3.Client) {
	begin(c)
	for i := 0; i < 5; i++ {
		put(c, base+"c", fmt.Sprint(i))
	}
	_, err := c.Compact(context10(), first+3, clientv3.WithCompactPhysical())
	say("compact: %s", verdict(err))
	for i := int64(1); i < 7; i++ {
		get(c, base+"c", clientv3.WithRev(first+i))
	}
	_, err = c.Compact(context10(), first+2)
	say("again: %s", verdict(err))
}
