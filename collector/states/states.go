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

// Client is the part of *client.Client that a Collector uses.
type Client interface {
	SecurityStates(ctx context.Context) iter.Seq2[*client.SecurityState, error]
	Machines(ctx context.Context) iter.Seq2[*client.Machine, error]
	AntivirusHealth(ctx context.Context) iter.Seq2[*client.AntivirusHealth, error]
	ContainsSecret(name string) bool
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
	recheck atomic.Bool // Request the preview at the next refresh.

	// Only used by the refreshing goroutine.
	began   time.Time // Start of the current refresh.
	last    *statesResult
	source  sourceChoice
	indexed int // Size of the last complete index, the expected size of the next one.
	read    int // Rows read by the current refresh.

	mu    sync.Mutex
	notes []string
	shown *statesResult // The last result, even if expired; nil if there is none.
}

// New returns a collector. It makes no API call.
func New(c Config, e collector.Env, api Client) *Collector {
	return &Collector{
		config:  c,
		env:     e,
		client:  api,
		fleet:   attention.Of(e.Shared),
		logger:  e.Log(),
		memory:  e.Memory(),
		dropped: newDroppedLabels(e.Metrics, api.ContainsSecret),
	}
}

// Reloaded makes the next refresh request the preview, even if it was refused before.
func (s *Collector) Reloaded() { s.recheck.Store(true) }

// Page returns the summary of the last result and notes about states that could not be
// read.
func (s *Collector) Page() collector.Page {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := collector.Page{Notes: s.notes, MaxAge: s.config.Age(), Measures: (*statesResult)(nil).measures()}
	if s.shown == nil {
		return page
	}
	page.Source = s.shown.Source
	page.Summary = s.shown.summary()
	if !collector.IsFresh(s.shown.At, page.MaxAge) {
		page.Summary = collector.Withdrawn(page.MaxAge)
		return page
	}
	page.Measures = s.shown.measures()
	return page
}

// Start publishes the stored result, unless its labels differ from the configured ones.
// Of an expired result only the time is published.
func (s *Collector) Start(_ context.Context, p *collector.Publisher) time.Time {
	p.OnWithdraw(s.fleet.Withdraw)
	s.dropped.announce()
	s.loadSource()
	r, snapshot, err := s.restore()
	if err != nil {
		s.logger.Warn("Ignoring stored security states", "err", err)
	}
	if r == nil {
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

// restore returns the stored result. It returns nil if there is none with the
// configured labels.
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

// Follow returns immediately: only a refresh changes the states.
func (s *Collector) Follow(context.Context) {}

// Refresh reads the whole fleet and returns its counts. If it fails, the last counts
// are kept.
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

// largeFleet is the number of rows after which a refresh runs the garbage collector
// itself. The runtime would wait until the heap has doubled, with two indexes of
// millions of machines in memory. The index has no pointers, so a collection takes a
// few milliseconds.
const largeFleet = 100_000

// countRow counts a row of the current refresh and collects garbage once every five
// times largeFleet rows.
func (s *Collector) countRow() {
	if s.read++; s.read%(5*largeFleet) == 0 {
		runtime.GC()
	}
}

// collectGarbage runs the garbage collector after a refresh of a large fleet,
// successful or not.
func (s *Collector) collectGarbage() {
	if s.read >= largeFleet {
		runtime.GC()
	}
}

// snapshot returns the series of a result. All but the source expire after the maximum
// age.
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

// setShown sets the result that Page describes.
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

// countTwiceIfEmpty runs count, and once more if it returned errNoMachines or an empty
// fleet that was not empty before. The second result is accepted.
func (s *Collector) countTwiceIfEmpty(ctx context.Context, count func(context.Context) (*fleetCount, error)) (*fleetCount, error) {
	c, err := count(ctx)
	doubtful := errors.Is(err, errNoMachines) || err == nil && c.isEmpty() && s.last.sum(machinesGauge) > 0
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
	isFirst := true
	for state, err := range s.client.SecurityStates(ctx) {
		if err != nil {
			e, ok := errors.AsType[*client.Error](err)
			err = fmt.Errorf("read machine security states: %w", err)
			if ok && isFirst && isRefusal(e) {
				return nil, refusedError{err, isServiceError(e)}
			}
			return nil, err
		}
		isFirst = false
		s.countRow()
		if err := c.addSecurityState(state); err != nil {
			return nil, fmt.Errorf("read machine security states: %w", err)
		}
	}
	if err := c.finishSecurityStates(); err != nil {
		return nil, fmt.Errorf("read machine security states: %w", err)
	}
	s.reportAntivirus(nil)
	return c, nil
}

// errNoMachines means that the service itself responded 404 to /api/machines because
// the tenant has no machines. It comes with an empty count.
var errNoMachines = errors.New("404 from /api/machines")

// countMachines reads the antivirus rows first. A single index then serves to join them
// with the machines and to deduplicate the machines.
func (s *Collector) countMachines(ctx context.Context) (*fleetCount, error) {
	c, err := s.countAntivirus(ctx)
	if err != nil {
		return nil, err
	}
	isFirst := true
	for machine, err := range s.client.Machines(ctx) {
		if err != nil {
			if e, ok := errors.AsType[*client.Error](err); ok && isFirst && e.API == client.Machines && e.NotFound() {
				c.finishMachines()
				return c, errNoMachines
			}
			return nil, fmt.Errorf("read machines: %w", err)
		}
		isFirst = false
		s.countRow()
		if err := c.addMachine(machine); err != nil {
			return nil, fmt.Errorf("read machines: %w", err)
		}
	}
	s.indexed = c.facts.Len()
	c.finishMachines()
	return c, nil
}

// countAntivirus starts a count with the antivirus rows. It leaves them out if the
// service itself says that the app may not read them or that there are none. A 404 is
// retried once.
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

// refusesAntivirus reports whether the service itself refuses the app
// /api/deviceavinfo. A gateway's error and a 401, which is about the token, are
// failures: they must not drop the antivirus properties of the whole fleet.
func refusesAntivirus(e *client.Error) bool {
	if e.API != client.DeviceAVInfo || !isServiceError(e) {
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
		if err := c.addAntivirusRow(row); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// reportAntivirus updates the page's note about missing antivirus states and logs when
// they become unavailable or available.
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
