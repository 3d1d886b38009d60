package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/shard"
	"github.com/mde-exporter/mde_exporter/internal/web"
)

const defaultPort = "10058"

// flags are the values of the command line flags.
type flags struct {
	configFile                  string
	autoReload                  model.Duration
	configCheck, once, diagnose bool
	tenants                     []string
	demo, service               bool
	demoSource                  string
	overrides                   config.Overrides
	endpoints                   config.Endpoints
	storagePath                 string
	shard, totalShards          int
	podName                     string
	telemetryPath               string
	lifecycle, pprof            bool
	web                         *toolkit.FlagConfig
	listenAddressGiven          bool
	log                         promslog.Config
}

// parseFlags parses the command line. Errors name the flag.
func parseFlags(args []string, stdout, stderr io.Writer) (*flags, error) {
	f := &flags{}
	app := f.application()
	app.UsageWriter(stdout).ErrorWriter(stderr)
	if _, err := app.Parse(args); err != nil {
		return nil, fmt.Errorf("%s%w, try --help", culprit(app, args, err), err)
	}
	if err := web.CheckTelemetryPath(f.telemetryPath); err != nil {
		return nil, fmt.Errorf("--web.telemetry-path: %w", err)
	}
	if len(f.tenants) > 0 && !f.once && !f.diagnose {
		return nil, errors.New("--tenant: only allowed with --once or --diagnose")
	}
	return f, cmp.Or(f.checkEndpoints(), f.checkShard())
}

// culprit returns the name of the flag whose value err is about, which kingpin omits:
// the flag that rejects its value with the same error.
func culprit(app *kingpin.Application, args []string, err error) string {
	context, parseErr := app.ParseContext(args)
	if parseErr != nil {
		return "" // kingpin names the flag in these errors.
	}
	for _, element := range context.Elements {
		flag, ok := element.Clause.(*kingpin.FlagClause)
		if !ok || element.Value == nil {
			continue
		}
		if refusal := flag.Model().Value.Set(*element.Value); refusal != nil && refusal.Error() == err.Error() {
			return "--" + flag.Model().Name + ": "
		}
	}
	return ""
}

// checkEndpoints rejects endpoint flags together with a file, because they would be
// ignored.
func (f *flags) checkEndpoints() error {
	if f.configFile == "" {
		return nil
	}
	for _, flag := range []struct{ name, value string }{
		{"--login-url", f.endpoints.LoginURL}, {"--graph-url", f.endpoints.GraphURL}, {"--api-url", f.endpoints.APIURL},
	} {
		if flag.value != "" {
			return fmt.Errorf("%s: not allowed with --config.file: set endpoints of the tenant in the file", flag.name)
		}
	}
	return nil
}

// application declares the flags.
func (f *flags) application() *kingpin.Application {
	app := kingpin.New("mde_exporter", "Prometheus exporter for Microsoft Defender for Endpoint.")
	app.HelpFlag.Short('h')
	app.Version(version.Print("mde_exporter")).VersionFlag.Short('V')

	app.Flag("config.file", "Tenants and watch lists, YAML. Without it: one tenant from AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE, labeled by AZURE_TENANT_NAME.").
		PlaceHolder("PATH").StringVar(&f.configFile)
	app.Flag("config.auto-reload-interval", "How often to check the configuration file and the files it names for changes, and reload them. 0 disables it.").
		Default("30s").SetValue(&f.autoReload)
	app.Flag("config.check", "Validate the configuration file and every file it names, print each mistake and exit.").
		BoolVar(&f.configCheck)
	app.Flag("once", "Refresh every collector once, print the metrics and exit.").
		BoolVar(&f.once)
	app.Flag("diagnose", "Try each tenant's tokens and APIs, print what works and what to fix, and exit.").
		BoolVar(&f.diagnose)
	app.Flag("tenant", "With --once and --diagnose: only this tenant. Repeatable.").
		PlaceHolder("NAME").StringsVar(&f.tenants)
	app.Flag("service", "Run as a Windows service, which logs to the event log.").
		BoolVar(&f.service)
	app.Flag("demo", "Add a simulated tenant, built in: no account, no network. With no other tenant the default of --web.listen-address is 127.0.0.1:"+defaultPort+".").
		BoolVar(&f.demo)
	app.Flag("demo.source", "The API from which the simulated tenant's security states come: machines or machinesecuritystates.").
		Default(string(client.Machines)).EnumVar(&f.demoSource, string(client.Machines), string(client.MachineSecurityStates))
	app.Flag("watched-domain", "Watch a domain, for every tenant. Repeatable.").
		PlaceHolder("NAME").StringsVar(&f.overrides.WatchedDomains)
	app.Flag("login-url", "Sign-in endpoint of the environment's tenant.").
		PlaceHolder("URL").StringVar(&f.endpoints.LoginURL)
	app.Flag("graph-url", "Microsoft Graph endpoint of the environment's tenant.").
		PlaceHolder("URL").StringVar(&f.endpoints.GraphURL)
	app.Flag("api-url", "Defender API endpoint of the environment's tenant.").
		PlaceHolder("URL").StringVar(&f.endpoints.APIURL)
	app.Flag("storage.path", "Directory that keeps the last values and the spent call quota across restarts. Without it, none are kept.").
		PlaceHolder("DIR").StringVar(&f.storagePath)
	app.Flag("shard", "Serve only the tenants of this shard, counted from 0.").
		Default("0").IntVar(&f.shard)
	app.Flag("total-shards", "Number of shards that share the tenants.").
		Default("1").IntVar(&f.totalShards)
	app.Flag("pod-name", "Take --shard from the ordinal at the end of a StatefulSet pod's name.").
		PlaceHolder("NAME").StringVar(&f.podName)
	app.Flag("web.telemetry-path", "Path under which to expose metrics.").
		Default(web.DefaultTelemetryPath).StringVar(&f.telemetryPath)
	app.Flag("web.enable-lifecycle", "Enable reloading by an HTTP POST to /-/reload.").
		BoolVar(&f.lifecycle)
	app.Flag("web.enable-pprof", "Serve profiles under /debug/pprof/.").
		BoolVar(&f.pprof)
	f.web = kingpinflag.AddFlags(app, ":"+defaultPort)
	app.GetFlag("web.listen-address").IsSetByUser(&f.listenAddressGiven)
	promslogflag.AddFlags(app, &f.log)
	return app
}

// checkShard sets the shard from the pod name and validates it.
func (f *flags) checkShard() error {
	if f.podName != "" {
		ordinal, err := shard.OrdinalOf(f.podName)
		if err != nil {
			return fmt.Errorf("--pod-name: %w", err)
		}
		f.shard = ordinal
	}
	switch {
	case f.totalShards < 1:
		return fmt.Errorf("--total-shards: %d is not a positive number", f.totalShards)
	case f.shard < 0 || f.shard >= f.totalShards:
		return fmt.Errorf("--shard: %d is not one of the shards 0 to %d of --total-shards", f.shard, f.totalShards-1)
	}
	return nil
}
