// Package states is the collector of machine security states: security_states.
package states

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
)

// Client is what a Collector asks of a tenant's client; *client.Client
// implements it.
type Client interface {
	SecurityStates(ctx context.Context) iter.Seq2[*client.SecurityState, error]
	Machines(ctx context.Context) iter.Seq2[*client.Machine, error]
	AntivirusHealth(ctx context.Context) iter.Seq2[*client.AntivirusHealth, error]
	HoldsSecret(name string) bool
}

// Collector counts the machines of a tenant by build, architecture and the
// properties that require attention.
type Collector struct {
	config  Config
	env     collector.Env
	client  Client
	fleet   *attention.Index
	logger  *slog.Logger
	memory  collector.Memory
	dropped droppedLabels
	again   atomic.Bool // The preview is to be asked at the next refresh.

	// Of the goroutine that refreshes.
	began   time.Time // The refresh under way.
	last    *statesResult
	source  sourceChoice
	indexed int // Machines in the last index that was complete: the next one has room for them.
	read    int // Rows of the refresh under way.

	mu    sync.Mutex
	notes []string
	shown *statesResult // However old; nil where there is none.
}

// New returns a collector that has not asked anything yet.
func New(c Config, e collector.Env, asked Client) *Collector {
	s := &Collector{
		config:  c,
		env:     e,
		client:  asked,
		fleet:   attention.Of(e.Shared),
		logger:  e.Log(),
		memory:  e.Memory(),
		dropped: newDroppedLabels(e.Metrics, asked.HoldsSecret),
	}
	s.fleet.Expect(c.Age())
	return s
}

// Reloaded makes the next refresh ask a refused preview again.
func (s *Collector) Reloaded() { s.again.Store(true) }

// Page describes the states that were counted last, and those that could not be read.
func (s *Collector) Page() collector.Page {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := collector.Page{Notes: s.notes, MaxAge: s.config.Age(), Measures: (*statesResult)(nil).measures()}
	if s.shown == nil {
		return page
	}
	page.Source = s.shown.Source
	page.Summary = fmt.Sprintf("%s machines, %s require attention", collector.Number(s.shown.sum(machinesGauge)), collector.Number(s.shown.sum(requiringGauge)))
	if !collector.IsFresh(s.shown.At, page.MaxAge) {
		page.Summary = collector.Withdrawn(page.MaxAge)
		return page
	}
	page.Measures = s.shown.measures()
	return page
}

// Start publishes the stored result, unless it is of another shape. Of one that
// is too old only the time is shown.
func (s *Collector) Start(_ context.Context, p *collector.Publisher) time.Time {
	p.OnWithdraw(s.fleet.Withdraw)
	s.dropped.announce()
	s.loadSource()
	r, snapshot, err := s.restore()
	if err != nil {
		s.logger.Warn("Ignoring stored security states", "err", err)
	}
	if r == nil {
		if s.fleet.Current().Unknown {
			s.fleet.Withdraw()
		}
		return time.Time{}
	}
	fresh := collector.IsFresh(r.At, s.config.Age())
	if !fresh {
		snapshot.Blocks = nil
	}
	snapshot.Share = func() { s.fleet.Resume(r.At, s.config.Age()) }
	p.Publish(snapshot)
	s.setShown(r)
	if fresh {
		p.Ready()
		s.last = r
	}
	return r.At
}

// restore returns the stored result, nil where there is none that can be shown
// with the labels that are configured.
func (s *Collector) restore() (*statesResult, collector.Snapshot, error) {
	var r statesResult
	if !s.memory.Load(s.env.Name, &r) {
		return nil, collector.Snapshot{}, nil
	}
	stored := s.config
	stored.RevisionLabel = r.RevisionLabel
	groupings := stored.groupings()
	r.keep(groupings)
	if err := r.check(groupings); err != nil {
		return nil, collector.Snapshot{}, err
	}
	if r.RevisionLabel != s.config.RevisionLabel {
		return nil, collector.Snapshot{}, nil
	}
	snapshot, err := s.snapshot(&r)
	if err != nil {
		return nil, collector.Snapshot{}, err
	}
	return &r, snapshot, nil
}

// Follow returns at once: nothing changes the states but a refresh.
func (s *Collector) Follow(context.Context) {}

// Refresh counts the whole fleet and returns the counts, or changes nothing.
func (s *Collector) Refresh(ctx context.Context) (collector.Outcome, error) {
	s.began, s.read = collector.Wall(time.Now()), 0
	c, err := s.count(ctx)
	if err != nil {
		s.collectGarbage()
		return collector.Outcome{}, err
	}
	r := c.result()
	snapshot, err := s.snapshot(r)
	if err != nil {
		return collector.Outcome{}, err
	}
	s.last = r
	fleet := &attention.State{At: r.At, MaxAge: s.config.Age(), Machines: c.attention}
	snapshot.Share = func() {
		s.fleet.Set(fleet)
		s.setShown(r)
		s.collectGarbage()
	}
	s.memory.Save(s.env.Name, r)
	return collector.Outcome{Snapshot: &snapshot}, nil
}

// largeFleet is how many rows leave so much garbage behind that it is collected at
// once, and not only when the heap has doubled: an index of millions of machines
// would be held twice. The index has no pointers, so this takes a few milliseconds.
const largeFleet = 100_000

// countRow counts a row of the refresh under way, and collects the garbage of every
// fifth large fleet of them.
func (s *Collector) countRow() {
	if s.read++; s.read%(5*largeFleet) == 0 {
		runtime.GC()
	}
}

// collectGarbage frees the memory of a refresh that read a large fleet, whether it
// succeeded or not.
func (s *Collector) collectGarbage() {
	if s.read >= largeFleet {
		runtime.GC()
	}
}

// snapshot is a result as it is exposed until it is too old. Where it came from
// stays.
func (s *Collector) snapshot(r *statesResult) (collector.Snapshot, error) {
	counts, err := r.counts(s.config.groupings(), s.env.Tenant, r.At.Add(s.config.Age()))
	if err != nil {
		return collector.Snapshot{}, err
	}
	source, err := r.sourceInfo(s.env.Tenant)
	if err != nil {
		return collector.Snapshot{}, err
	}
	return collector.Snapshot{Blocks: []*collector.Block{counts, source}, At: r.At}, nil
}

// setShown keeps what a page shows.
func (s *Collector) setShown(r *statesResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = r
}

// count reads the fleet from the configured source.
func (s *Collector) count(ctx context.Context) (*fleetCount, error) {
	switch s.config.Source {
	case SourcePreview:
		return s.countTwiceIfEmpty(ctx, s.countPreview)
	case SourceMachines:
		return s.countTwiceIfEmpty(ctx, s.countMachines)
	default:
		return s.countAuto(ctx)
	}
}

// countTwiceIfEmpty counts, and counts again where the answer was an empty fleet
// that was not empty before, or errNoMachines. A second answer that says the same
// is accepted.
func (s *Collector) countTwiceIfEmpty(ctx context.Context, count func(context.Context) (*fleetCount, error)) (*fleetCount, error) {
	c, err := count(ctx)
	doubtful := errors.Is(err, errNoMachines) || err == nil && c.machines == 0 && s.last.sum(machinesGauge) > 0
	if !doubtful {
		return c, err
	}
	s.logger.Info("Fleet is empty, reading it once more")
	c, err = count(ctx)
	if errors.Is(err, errNoMachines) {
		return c, nil
	}
	return c, err
}

func (s *Collector) countPreview(ctx context.Context) (*fleetCount, error) {
	c := s.newCount(SourcePreview, false)
	rows := 0
	for state, err := range s.client.SecurityStates(ctx) {
		if err != nil {
			e, ok := errors.AsType[*client.Error](err)
			err = fmt.Errorf("read machine security states: %w", err)
			if ok && rows == 0 && isRefusal(e) {
				return nil, refusedError{err, isOwnError(e)}
			}
			return nil, err
		}
		rows++
		s.countRow()
		if err := c.securityState(state); err != nil {
			return nil, fmt.Errorf("read machine security states: %w", err)
		}
	}
	if err := c.securityStates(); err != nil {
		return nil, fmt.Errorf("read machine security states: %w", err)
	}
	s.reportAntivirus(nil)
	return c, nil
}

// errNoMachines says that the service itself answers 404 for /api/machines, which
// means that there are none. It comes with an empty count.
var errNoMachines = errors.New("404 from /api/machines")

// countMachines reads the antivirus rows first, so that one index serves to join
// them and to count each machine once.
func (s *Collector) countMachines(ctx context.Context) (*fleetCount, error) {
	c, err := s.countAntivirus(ctx)
	if err != nil {
		return nil, err
	}
	rows := 0
	for machine, err := range s.client.Machines(ctx) {
		if err != nil {
			if e, ok := errors.AsType[*client.Error](err); ok && rows == 0 && e.API == client.Machines && e.NotFound() {
				c.allMachines()
				return c, errNoMachines
			}
			return nil, fmt.Errorf("read machines: %w", err)
		}
		rows++
		s.countRow()
		if err := c.machine(machine); err != nil {
			return nil, fmt.Errorf("read machines: %w", err)
		}
	}
	s.indexed = c.known.Len()
	c.allMachines()
	return c, nil
}

// countAntivirus begins a count with the antivirus rows, or without them where
// the service itself says that the app may not read them or that there are none.
// A 404 is asked once more.
func (s *Collector) countAntivirus(ctx context.Context) (*fleetCount, error) {
	c, err := s.readAntivirus(ctx)
	if e, ok := errors.AsType[*client.Error](err); ok && e.API == client.DeviceAVInfo && e.Status == http.StatusNotFound {
		c, err = s.readAntivirus(ctx)
	}
	if err == nil {
		s.reportAntivirus(nil)
		return c, nil
	}
	if e, ok := errors.AsType[*client.Error](err); ok && refusesAntivirus(e) {
		s.reportAntivirus(err)
		return s.newCount(SourceMachines, true), nil
	}
	return nil, fmt.Errorf("read antivirus health: %w", err)
}

// refusesAntivirus reports whether /api/deviceavinfo itself is unavailable to the
// app. An answer of a gateway in its place is a failure, and so is a 401, which is
// about the token: neither may drop the antivirus properties of the whole fleet.
func refusesAntivirus(e *client.Error) bool {
	if e.API != client.DeviceAVInfo || !isOwnError(e) {
		return false
	}
	switch e.Status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	default:
		return false
	}
}

func (s *Collector) readAntivirus(ctx context.Context) (*fleetCount, error) {
	c := s.newCount(SourceMachines, false)
	for row, err := range s.client.AntivirusHealth(ctx) {
		if err != nil {
			return nil, err
		}
		s.countRow()
		if err := c.antivirusRow(row); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// reportAntivirus shows on the page, and logs once, whether antivirus states are
// missing.
func (s *Collector) reportAntivirus(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		if s.notes == nil {
			s.logger.Warn("Antivirus states unavailable, grant the app the role", "role", client.DeviceAVInfo.Role(), "err", err)
		}
		cause, _ := client.Explain(err, s.env.Tenant)
		s.notes = []string{"Antivirus states are missing: the app may not read /api/deviceavinfo. Grant it the role " + client.DeviceAVInfo.Role() + ". " + cause}
	case s.notes != nil:
		s.logger.Info("Antivirus states available again")
		s.notes = nil
	}
}

func (s *Collector) newCount(source string, incomplete bool) *fleetCount {
	return newFleetCount(source, s.config, s.began, incomplete, s.indexed, s.last, s.dropped)
}
