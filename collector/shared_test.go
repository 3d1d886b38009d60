package collector

import "testing"

func TestSharedHasOneValuePerType(t *testing.T) {
	type one struct{ n int }
	type two struct{ n int }
	var s, other Shared
	made, loads := 0, 0
	share := func(s *Shared) *one {
		return Share(s, func() (*one, func()) { made++; return &one{made}, func() { loads++ } })
	}
	if a, b := share(&s), share(&s); a != b || made != 1 {
		t.Errorf("%v and %v, made %d times", a, b, made)
	}
	if share(&other) == share(&s) || made != 2 {
		t.Error("two Shared have the same value")
	}
	if Share(&s, func() (*two, func()) { return &two{7}, nil }).n != 7 {
		t.Error("a value of another type is not its own")
	}
	s.Load()
	s.Load()
	if loads != 2 {
		t.Errorf("loaded %d times, want 2", loads)
	}
}
