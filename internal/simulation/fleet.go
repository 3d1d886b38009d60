package simulation

import (
	"iter"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// DomainMachinesLimit is the maximum number of machines in a response for a
// domain.
const DomainMachinesLimit = 500

// Domain describes the fleet's contacts with a domain.
type Domain struct {
	// Machines is the number of machines. /machines returns at most
	// DomainMachinesLimit of them, /stats counts all.
	Machines int
	// FirstSeen and LastSeen are the times since the first and the last contact.
	// Zero LastSeen means now; zero FirstSeen means 30 days.
	FirstSeen, LastSeen time.Duration
}

// Story changes a tenant over time. Its functions must be pure functions of the
// time since the tenant's start. Any of them may be nil.
type Story struct {
	// Fleet returns the machines: count of them, starting with index first. Nil
	// means Options.Machines.
	Fleet func(since time.Duration) (first, count int)
	// Others returns the number of records without a security state. Nil means
	// Options.OtherRecords.
	Others func(since time.Duration) int
	// Machine changes a generated machine.
	Machine func(m *Machine, since time.Duration)
	// Alerts returns the number of alerts. Nil means Options.Alerts.
	Alerts func(since time.Duration) int
	// Alert changes a generated alert, and Scores the scores.
	Alert  func(a *Alert, since time.Duration)
	Scores func(s *Scores, since time.Duration)
	// Domain returns the contacts with a domain.
	Domain func(name string, since time.Duration) (Domain, bool)
}

// fleet describes the machines and domains of a tenant, apart from time. It is
// immutable: an edit makes a copy.
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

// View is the fleet at one moment.
type View struct {
	*shape
	at time.Time
}

// At returns that moment.
func (v View) At() time.Time { return v.at }

// shape is the part of a View that is shared until an edit or the story changes
// something.
type shape struct {
	fleet        *fleet
	since        time.Duration
	first, count int
	others       int
	alertCount   int

	indexOnce sync.Once
	blocks    []block
}

// block counts the rows before a group of blockSize machines: those of the
// preview and those of /api/deviceavinfo. It allows a page to start anywhere
// without generating the rows before it.
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

// machine generates the machine of an index. Negative indexes are records without
// a security state.
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

// other turns m into a record without a security state.
func (s *shape) other(m *Machine) {
	switch m.Index % 4 {
	case 0:
		m.Merged = true
		if s.count > 0 {
			m.into = newDice(s.fleet.seed, s.first+int(uint64(m.dice)%uint64(s.count)))
		}
		return
	case -1: // discovered in the network; may look active
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
// last. The pointer is valid until the next iteration.
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

// record generates the record at a position.
func (s *shape) record(m *Machine, place int) {
	if place >= s.count {
		s.machine(m, s.count-place-1)
		return
	}
	s.machine(m, s.first+place)
}

// Machines yields the machines with a security state. The pointer is valid until
// the next iteration.
func (s *shape) Machines() iter.Seq[*Machine] {
	return func(yield func(*Machine) bool) {
		for m := range s.Records() {
			if m.Onboarded() && !yield(m) {
				return
			}
		}
	}
}

// index returns the blocks of the fleet. The last one contains the totals.
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

// list is a paged response. Rows are written by position.
type list struct {
	rows int
	// write writes the rows from position from up to to.
	write func(p *page, from, to int)
}

// states returns the list of machines with a security state.
func (v View) states() list {
	return v.rowsOf(0, func(p *page, m *Machine, _ int) { p.state(m) })
}

// antivirus returns the list of rows of /api/deviceavinfo.
func (v View) antivirus() list {
	return v.rowsOf(1, func(p *page, m *Machine, n int) { p.antivirus(m, n, v.at) })
}

// rowsOf returns a list in which each machine has the number of rows that kind
// selects from its block. It starts at the block that contains the first row.
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

// machines returns the list of all records, those without a security state last.
func (v View) machines() list {
	return list{v.count + v.others, func(p *page, from, to int) {
		var m Machine
		for i := from; i < to; i++ {
			v.record(&m, i)
			p.machine(&m, v.at)
		}
	}}
}

// domain returns the contacts with the domain, and whether there are any.
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

// Contacted yields all machines that contacted the domain. When the number grows,
// the same machines stay and others are added. The pointer is valid until the
// next iteration.
func (s *shape) Contacted(name string) iter.Seq[*Machine] {
	return func(yield func(*Machine) bool) {
		d, ok := s.domain(name)
		if !ok || s.count == 0 {
			return
		}
		// An odd stride visits each of the slots, a power of two, once. A slot
		// stands for the machine index congruent to it, so a machine keeps its
		// slot while others join and leave.
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

// prevalence returns the number of machines that contacted the domain.
func (s *shape) prevalence(name string) int {
	d, _ := s.domain(name)
	return min(d.Machines, s.totals()[0])
}

// Repeated rows: after every runLength rows of a list, its last repeatLength rows
// are sent again. So each page of 1,000 rows or more begins with the last rows of
// the page before. No row is omitted.
const (
	runLength    = 1000
	repeatLength = 3
)

// sequence is the order in which a list's rows are sent.
type sequence struct {
	rows    int
	repeats bool
}

// length returns the number of positions, repeated rows included.
func (q sequence) length() int {
	if !q.repeats || q.rows <= runLength {
		return q.rows
	}
	runs := (q.rows - repeatLength - 1) / (runLength - repeatLength)
	return q.rows + runs*repeatLength
}

// rowsOf yields the ranges of rows at the positions from up to to.
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
