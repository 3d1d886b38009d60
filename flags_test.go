package main

import (
	"io"
	"strings"
	"testing"
)

func TestFlagErrorsNameTheFlag(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--shard=1", "--total-shards=1x"}, "--total-shards: "},
		{[]string{"--total-shards=1x", "--shard=1"}, "--total-shards: "},
		{[]string{"--shard=x", "--storage.path=x"}, "--shard: "},
		{[]string{"--storage.path=x", "--shard", "x"}, "--shard: "},
		{[]string{"--shard="}, "--shard: "},
		{[]string{"--log.level=debug", "--log.format=debug"}, "--log.format: "},
		{[]string{"--storage.path=foo", "--log.level=foo"}, "--log.level: "},
		{[]string{"--api-url=m", "--demo.source=graph"}, "--demo.source: "},
		{[]string{"--shard=1", "--shard=1", "--total-shards=x"}, "flag 'shard' cannot be repeated"},
		{[]string{"--storage.path=e", "--demonstrate"}, "unknown long flag '--demonstrate'"},
		{[]string{"--shard=2", "--total-shards=2"}, "--shard: "},
		{[]string{"--shard=1", "--total-shards=0"}, "--total-shards: "},
		{[]string{"--pod-name=mde", "--shard=1"}, "--pod-name: "},
		{[]string{"--shard=1", "--web.telemetry-path=1"}, "--web.telemetry-path: "},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			_, err := parseFlags(test.args, io.Discard, io.Discard)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want an error that begins with %q", err, test.want)
			}
		})
	}
}
