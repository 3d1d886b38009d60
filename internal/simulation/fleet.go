package simulation

import (
	"iter"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// DomainMachinesLimit is how many machines an answer for a domain holds at most.
const DomainMachinesLimit = 500

// Domain is how the fleet communicated with a domain.
type Domain struct {
	// Machines is how many machines did. The answer of /machines is cut at
	// DomainMachinesLimit, that of /stats is not.
	Machines int
	// FirstSeen and LastSeen are how long ago the first and the latest contact
	// was. Zero LastSeen means just now; zero FirstSeen 30 days.
	FirstSeen, LastSeen time.Duration
}

// Story makes a tenant change by itself: pure functions of the time since the
// tenant's start. Any of them may be nil.
type Story struct {
	// Fleet tells which machines there are: count of them, from the index first
	// on. Nil means those of Options.Machines.
	Fleet func(since time.Duration) (first, count int)
	// Others returns how many records there are without a security state. Nil means
	// those of Options.OtherRecords.
	Others func(since time.Duration) int
	// Machine alters a machine as the seed made it.
	Machine func(m *Machine, since time.Duration)
	// Alerts returns how many alerts there are. Nil means those of Options.Alerts.
	Alerts func(since time.Duration) int
	// Alert alters an alert as the seed made it, and Scores the scores.
	Alert  func(a *Alert, since time.Duration)
	Scores func(s *Scores, since time.Duration)
	// Domain returns how a domain was contacted.
	Domain func(name string, since time.Duration) (Domain, bool)
}

// fleet is what the machines and domains of a tenant are, apart from time. It
// is never altered: an edit makes another one.
type fleet struct {
	seed    uint64
	count   int // without a story
	others  int // records without a security state; see Options.OtherRecords
	alerts  int // without a story
	start   time.Time
	domains map[string]Domain
	story   Story
	changes []func(*Machine)
}

// View is the fleet as it stands at one moment.
type View struct {
	*shape
	at time.Time
}

// At is the moment.
func (v View) At() time.Time { return v.at }

// shape is the part of a View that stays while neither an edit nor the story
// changes anything.
type shape struct {
	fleet        *fleet
	since        time.Duration
	first, count int
	others       int
	alertCount   int

	indexOnce sync.Once
	blocks    []block
}

// block counts the rows before the machines of one stretch of the fleet, so
// that a page can begin anywhere without writing what comes before it: those of
// the preview and those of /api/deviceavinfo.
type block [2]int

func (m *Machine) rows() block {
	if m.Onboarded() {
		return block{1, m.antivirusRows()}
	}
	return block{}
}

const blockSize = 128

func newShape(f *fleet, since time.Duration) *shape {
	s := &shape{fleet: f, since: since, count: f.count, others: f.others, alertCount: f.alerts}
	if f.story.Fleet != nil {
		s.first, s.count = f.story.Fleet(since)
	}
	if f.story.Others != nil {
		s.others = f.story.Others(since)
	}
	if f.story.Alerts != nil {
		s.alertCount = f.story.Alerts(since)
	}
	return s
}

// machine makes the machine of an index.
func (s *shape) machine(m *Machine, index int) {
	m.generate(s.fleet.seed, index)
	if index < 0 {
		s.other(m)
		return
	}
	if s.fleet.story.Machine != nil {
		s.fleet.story.Machine(m, s.since)
	}
	for _, change := range s.fleet.changes {
		change(m)
	}
}

// other makes m one of the records that have no security state.
func (s *shape) other(m *Machine) {
	switch m.Index % 4 {
	case 0:
		m.Merged = true
		if s.count > 0 {
			m.into = newDice(s.fleet.seed, s.first+int(uint64(m.dice)%uint64(s.count)))
		}
		return
	case -1: // seen in the network: it may look active
		m.Onboarding, m.Architecture, m.Health = "CanBeOnboarded", "", "Active"
		if m.Index%5 == 0 {
			m.Onboarding = "canBeOnboarded"
		}
	case -2:
		m.Onboarding = "Unsupported"
	case -3:
		m.Onboarding = "InsufficientInfo"
	}
	m.Group, m.Tags, m.Agent = "", nil, ""
}

// Records yields every record of /api/machines, those without a security state
// last. The machine is valid until the next one is yielded.
func (s *shape) Records() iter.Seq[*Machine] {
	return func(yield func(*Machine) bool) {
		var m Machine
		for i := range s.count + s.others {
			if s.record(&m, i); !yield(&m) {
				return
			}
		}
	}
}

// record makes the machine of a place among the records.
func (s *shape) record(m *Machine, place int) {
	if place >= s.count {
		s.machine(m, s.count-place-1)
		return
	}
	s.machine(m, s.first+place)
}

// Machines yields the fleet's machines, those without a security state left
// out. The machine is valid until the next one is yielded.
func (s *shape) Machines() iter.Seq[*Machine] {
	return func(yield func(*Machine) bool) {
		for m := range s.Records() {
			if m.Onboarded() && !yield(m) {
				return
			}
		}
	}
}

// index counts the rows of every stretch of the fleet; its last block holds the
// totals.
func (s *shape) index() []block {
	s.indexOnce.Do(func() {
		var total block
		var m Machine
		s.blocks = make([]block, 0, s.count/blockSize+2)
		for i := range s.count {
			if i%blockSize == 0 {
				s.blocks = append(s.blocks, total)
			}
			s.machine(&m, s.first+i)
			rows := m.rows()
			total[0] += rows[0]
			total[1] += rows[1]
		}
		s.blocks = append(s.blocks, total)
	})
	return s.blocks
}

func (s *shape) totals() block {
	blocks := s.index()
	return blocks[len(blocks)-1]
}

// list is one of the answers that come in pages: rows that are counted and
// written by their place.
type list struct {
	rows int
	// write writes the rows from one place up to another.
	write func(p *page, from, to int)
}

// states is the list of machines with a security state.
func (v View) states() list {
	return v.rowsOf(0, func(p *page, m *Machine, _ int) { p.state(m) })
}

// antivirus is the list of rows of /api/deviceavinfo.
func (v View) antivirus() list {
	return v.rowsOf(1, func(p *page, m *Machine, n int) { p.antivirus(m, n, v.at) })
}

// rowsOf is a list of which each machine has the rows that kind of a block
// counts: it walks from the block in which the first one lies.
func (v View) rowsOf(kind int, write func(p *page, m *Machine, n int)) list {
	return list{v.totals()[kind], func(p *page, from, to int) {
		blocks := v.index()
		b, found := slices.BinarySearchFunc(blocks, from, func(b block, row int) int { return b[kind] - row })
		if !found {
			b--
		}
		row := blocks[b][kind]
		var m Machine
		for i := b * blockSize; i < v.count && row < to; i++ {
			v.machine(&m, v.first+i)
			for n := range m.rows()[kind] {
				if row >= from && row < to {
					write(p, &m, n)
				}
				row++
			}
		}
	}}
}

// machines is the list of all records, those without a security state last.
func (v View) machines() list {
	return list{v.count + v.others, func(p *page, from, to int) {
		var m Machine
		for i := from; i < to; i++ {
			v.record(&m, i)
			p.machine(&m, v.at)
		}
	}}
}

// domain returns how the domain was contacted, if it was.
func (s *shape) domain(name string) (Domain, bool) {
	if d, ok := s.fleet.domains[name]; ok {
		return d, d.Machines > 0
	}
	if s.fleet.story.Domain != nil {
		d, ok := s.fleet.story.Domain(name, s.since)
		return d, ok && d.Machines > 0
	}
	return Domain{}, false
}

// Contacted yields the machines that communicated with the domain, all of them.
// They are the same ones while their number stays, and the same ones with
// others when it grows. The machine is valid until the next one is yielded.
func (s *shape) Contacted(name string) iter.Seq[*Machine] {
	return func(yield func(*Machine) bool) {
		d, ok := s.domain(name)
		if !ok || s.count == 0 {
			return
		}
		// The slots, a power of two, are visited by an odd stride, each once.
		// A slot stands for the one index of the fleet that is congruent to it:
		// so a machine keeps its slot while the fleet around it comes and goes.
		slots := 1 << bits.Len(uint(s.count-1))
		h := hashString(name) ^ s.fleet.seed
		slot, stride := int(h%uint64(slots)), int(h>>32)%slots|1
		var m Machine
		for left, n := d.Machines, 0; n < slots && left > 0; n++ {
			offset := (slot - s.first) & (slots - 1)
			slot = (slot + stride) & (slots - 1)
			if offset >= s.count {
				continue
			}
			s.machine(&m, s.first+offset)
			if !m.Onboarded() {
				continue
			}
			if !yield(&m) {
				return
			}
			left--
		}
	}
}

// prevalence is how many machines communicated with the domain.
func (s *shape) prevalence(name string) int {
	d, _ := s.domain(name)
	return min(d.Machines, s.totals()[0])
}

// Repeats: after every runLength rows of a list, repeatLength of the last ones
// come again, so that each page of a thousand rows and more begins with rows
// that the page before ended with. No row is left out for it.
const (
	runLength    = 1000
	repeatLength = 3
)

// sequence is the order in which a list's rows are sent.
type sequence struct {
	rows    int
	repeats bool
}

// length counts the places, repeats included.
func (q sequence) length() int {
	if !q.repeats || q.rows <= runLength {
		return q.rows
	}
	runs := (q.rows - repeatLength - 1) / (runLength - repeatLength)
	return q.rows + runs*repeatLength
}

// rowsOf yields the stretches of rows that stand in the places from up to to.
func (q sequence) rowsOf(from, to int) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		to = min(to, q.length())
		for from < to {
			run := from / runLength
			end := min((run+1)*runLength, to)
			shift := 0
			if q.repeats {
				shift = run * repeatLength
			}
			if !yield(from-shift, end-shift) {
				return
			}
			from = end
		}
	}
}
