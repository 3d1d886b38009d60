// Package shard assigns tenants to exporters.
//
// The result depends only on the tenant's name and the number of shards. It must
// never change between versions of the program, so that shards of different
// versions serve every tenant exactly once.
package shard

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Of returns the shard that serves the tenant, from 0 to total-1. It returns 0 if
// total is 1 or less. When total grows from n to n+1, one tenant in n+1 moves,
// always to the new shard.
//
// It is the jump consistent hash of Lamping and Veach (arXiv:1406.2294) of the
// first eight bytes of the name's SHA-256 sum, as a big-endian number.
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

// OrdinalOf returns the ordinal in the name of a Kubernetes StatefulSet's pod: 2
// for "mde-exporter-2".
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
