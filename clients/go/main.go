// The stock Go client against one endpoint: one line per check, exit code 1 at the first failure.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const prefix = "clients/go/"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . <endpoint>, e.g. 127.0.0.1:2379")
		os.Exit(2)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:], DialTimeout: 5 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL connect:", err)
		os.Exit(1)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	checks := []struct {
		name string
		run  func(context.Context, *clientv3.Client) error
	}{
		{"put", put}, {"range", ranges}, {"txn", txn}, {"watch", watch},
		{"delete", del}, {"lease", lease}, {"compaction", compaction},
	}
	for _, check := range checks {
		if err := check.run(ctx, client); err != nil {
			fmt.Fprintf(os.Stderr, "FAIL %s: %v\n", check.name, err)
			os.Exit(1)
		}
		fmt.Println("ok", check.name)
	}
}

func expect(holds bool, what string, got any) error {
	if holds {
		return nil
	}
	return fmt.Errorf("%s: got %v", what, got)
}

func put(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
		return err
	}
	if _, err := c.Put(ctx, prefix+"a", "1"); err != nil {
		return err
	}
	answer, err := c.Put(ctx, prefix+"a", "2", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	return expect(answer.PrevKv != nil && string(answer.PrevKv.Value) == "1", "what was there", answer)
}

func ranges(ctx context.Context, c *clientv3.Client) error {
	for _, key := range []string{"b", "c"} {
		if _, err := c.Put(ctx, prefix+key, key); err != nil {
			return err
		}
	}
	answer, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(2),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return err
	}
	found := len(answer.Kvs) == 2 && answer.Count == 3 && answer.More
	if !found || string(answer.Kvs[0].Key) != prefix+"c" {
		return expect(false, "two of three keys, last first", answer)
	}
	first, err := c.Get(ctx, prefix+"a")
	if err != nil {
		return err
	}
	before, err := c.Get(ctx, prefix+"a", clientv3.WithRev(first.Kvs[0].CreateRevision))
	if err != nil {
		return err
	}
	return expect(string(before.Kvs[0].Value) == "1", "the first value at its revision", before)
}

func txn(ctx context.Context, c *clientv3.Client) error {
	swap := func(from, to string) (*clientv3.TxnResponse, error) {
		return c.Txn(ctx).If(clientv3.Compare(clientv3.Value(prefix+"a"), "=", from)).
			Then(clientv3.OpPut(prefix+"a", to)).Else(clientv3.OpGet(prefix + "a")).Commit()
	}
	done, err := swap("2", "3")
	if err != nil {
		return err
	}
	if !done.Succeeded {
		return expect(false, "a swap that holds", done)
	}
	refused, err := swap("2", "4")
	if err != nil {
		return err
	}
	kvs := refused.Responses[0].GetResponseRange().GetKvs()
	return expect(!refused.Succeeded && string(kvs[0].Value) == "3", "a swap that does not hold", refused)
}

func watch(ctx context.Context, c *clientv3.Client) error {
	now, err := c.Get(ctx, prefix+"a")
	if err != nil {
		return err
	}
	start := now.Kvs[0].CreateRevision
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := c.Watch(ctx, prefix+"a", clientv3.WithRev(start), clientv3.WithPrevKV())
	if _, err := c.Put(ctx, prefix+"a", "live"); err != nil {
		return err
	}
	var seen, before []string
	for len(seen) < 4 {
		answer, open := <-changes
		if !open || answer.Err() != nil {
			return fmt.Errorf("the watch ended: %v", answer.Err())
		}
		for _, event := range answer.Events {
			seen = append(seen, string(event.Kv.Value))
			if event.PrevKv != nil {
				before = append(before, string(event.PrevKv.Value))
			}
		}
	}
	got := fmt.Sprint(seen, before)
	return expect(got == "[1 2 3 live] [1 2 3]", "history, then live, each with what was there", got)
}

func del(ctx context.Context, c *clientv3.Client) error {
	answer, err := c.Delete(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	return expect(answer.Deleted == 3 && len(answer.PrevKvs) == 3, "three keys deleted", answer)
}

func lease(ctx context.Context, c *clientv3.Client) error {
	granted, err := c.Grant(ctx, 2)
	if err != nil {
		return err
	}
	if _, err := c.Put(ctx, prefix+"leased", "x", clientv3.WithLease(granted.ID)); err != nil {
		return err
	}
	alive, stop := context.WithCancel(ctx)
	defer stop()
	renewals, err := c.KeepAlive(alive, granted.ID)
	if err != nil {
		return err
	}
	for range 3 {
		if renewal := <-renewals; renewal == nil {
			return fmt.Errorf("the lease was not kept alive")
		}
	}
	left, err := c.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	if left.TTL <= 0 || len(left.Keys) != 1 {
		return expect(false, "a lease alive with its key", left)
	}
	if _, err := c.Revoke(ctx, granted.ID); err != nil {
		return err
	}
	gone, err := c.Get(ctx, prefix+"leased")
	if err != nil {
		return err
	}
	return expect(gone.Count == 0, "the key gone with its lease", gone)
}

func compaction(ctx context.Context, c *clientv3.Client) error {
	answer, err := c.Put(ctx, prefix+"a", "last")
	if err != nil {
		return err
	}
	if _, err := c.Compact(ctx, answer.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	_, err = c.Get(ctx, prefix+"a", clientv3.WithRev(answer.Header.Revision-1))
	compacted := err != nil && err.Error() == "etcdserver: mvcc: required revision has been compacted"
	return expect(compacted, "a read below the compaction", err)
}
