package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
)

// serviceName is the name of the service and of its event source.
const serviceName = "mde_exporter"

// runService runs the program as a Windows service until it stops. It logs to the event
// log. An error means that the service did not start.
func runService(run program) error {
	log, err := eventlog.Open(serviceName)
	if err != nil {
		return fmt.Errorf("--service: open the event log: %w", err)
	}
	defer log.Close()
	s := &service{run: run, stderr: eventWriter{log}}
	err = svc.Run(serviceName, s)
	if err == nil && !s.started || errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		err = errors.New("not started by the service manager: remove the flag, or create a service as described in docs/windows.md")
	}
	if err != nil {
		return fmt.Errorf("--service: %w", err)
	}
	return nil
}

// service implements [svc.Handler] for the program.
type service struct {
	run     program
	stderr  io.Writer
	started bool
}

// Execute implements [svc.Handler]. It signals the program when the service stops or
// Windows shuts down.
func (s *service) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	s.started = true
	signals := make(chan os.Signal, 2)
	ended := make(chan int, 1)
	go func() { ended <- s.run(signals, s.stderr) }()
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	for {
		select {
		case code := <-ended:
			return code != 0, uint32(code)
		case request := <-requests:
			switch request.Cmd {
			case svc.Interrogate:
				status <- request.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending, WaitHint: uint32((stopTimeout + time.Second).Milliseconds())}
				signals <- os.Interrupt
			}
		}
	}
}
