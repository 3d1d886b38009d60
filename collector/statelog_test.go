package collector

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mde-exporter/mde_exporter/client"
)

func TestStateLogYieldsTheFirstRowOfEachMachine(t *testing.T) {
	for _, rows := range []int{0, 1, 2, 300, 100_000} {
		t.Run(fmt.Sprint(rows, " rows"), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(rows), 1))
			log, want := newStateLog(rows), make(map[client.MachineID]uint32)
			for i := range uint32(rows) {
				id := hashedID(random.Uint64N(uint64(rows)))
				if _, twice := want[id]; !twice {
					want[id] = i
				}
				if !log.add(loggedState{id: id, group: i}) {
					t.Fatal("the log is full")
				}
			}
			for s := range log.machines() {
				first, known := want[s.id]
				if !known || first != s.group {
					t.Fatalf("row %d of a machine whose first is %d, or which came before", s.group, first)
				}
				delete(want, s.id)
			}
			if len(want) > 0 {
				t.Errorf("%d machines are missing", len(want))
			}
		})
	}
}
