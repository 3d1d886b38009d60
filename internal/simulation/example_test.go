package simulation_test

import (
	"fmt"
	"net/http"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// A test configures the tenant, lets the program under test call it, and then
// checks the calls.
func ExampleTenant() {
	tenant := simulation.New(simulation.Options{Machines: 200, Limits: simulation.DocumentedLimits()})
	server, err := tenant.Listen(simulation.ListenOptions{Separate: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	tenant.Contact("evil.example", 12)
	tenant.Outage(simulation.AntivirusNotReporting, 19045, 0.3)
	tenant.Fail(simulation.DomainMachines, simulation.Fault{Status: http.StatusTooManyRequests, RetryAfter: "7", Times: 1})

	response, err := http.Get(server.APIURL + "/api/domains/evil.example/machines")
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = response.Body.Close()
	fmt.Println(response.Status, "after", response.Header.Get("Retry-After"))

	fmt.Println(tenant.Now().Tally().Total, "machines,", tenant.Now().DomainTally("evil.example").Machines, "of them contacted evil.example")
	fmt.Println(tenant.Count(simulation.DomainMachines, 429), "call rejected,", len(tenant.Misdirected()), "misdirected tokens")
	// Output:
	// 429 Too Many Requests after 7
	// 200 machines, 12 of them contacted evil.example
	// 1 call rejected, 0 misdirected tokens
}
