// Package shard decides which of several exporters serves a tenant.
//
// The answer depends on the tenant's name and the number of shards and on
// nothing else, and it never changes between versions of the program: two
// shards of different versions still serve every tenant exactly once.
package shard

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Of returns the shard that serves the tenant, between 0 and total-1; 0 where the
// total is 1 or less and tenants are not divided. Going from n shards to n+1 moves
// one tenant in n+1, each of them to the new shard.
//
// It is the jump consistent hash of Lamping and Veach (arXiv:1406.2294), of
// the first eight bytes of the name's SHA-256 sum, read as a big-endian number.
func Of(tenant string, total int) int {
	sum := sha256.Sum256([]byte(tenant))
	key := binary.BigEndian.Uint64(sum[:])
	shard, next := int64(0), int64(0)
	for next < int64(total) {
		shard = next
		key = key*2862933555777941757 + 1
		next = int64(float64(shard+1) * (float64(1<<31) / float64(key>>33+1)))
	}
	return int(shard)
}

// OrdinalOf returns the number at the end of the name that a Kubernetes
// StatefulSet gives to a pod: 2 for "mde-exporter-2".
func OrdinalOf(podName string) (int, error) {
	dash := strings.LastIndexByte(podName, '-')
	if dash < 1 {
		return 0, fmt.Errorf("pod name %q is not that of a StatefulSet's pod: want NAME-ORDINAL, as in mde-exporter-0", podName)
	}
	ordinal := podName[dash+1:]
	n, err := strconv.ParseInt(ordinal, 10, 32)
	if err != nil || strconv.FormatInt(n, 10) != ordinal {
		return 0, fmt.Errorf("pod name %q does not end in an ordinal: want NAME-ORDINAL, as in mde-exporter-0", podName)
	}
	return int(n), nil
}
