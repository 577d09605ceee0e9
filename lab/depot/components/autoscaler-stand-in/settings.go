package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Settings is what the command line says: upstream's flags, names and defaults, as far as they are honoured.
type Settings struct {
	Address           string
	CloudConfig       string
	Discovery         []Tag
	Kubeconfig        string
	LeaderElect       bool
	Namespace         string
	ScanInterval      time.Duration
	ProvisionTime     time.Duration
	MaxNodesTotal     int
	TemplateCache     time.Duration
	FirstBackoff      time.Duration
	LongestBackoff    time.Duration
	ScaleDown         bool
	UnneededTime      time.Duration
	UnreadyTime       time.Duration
	Recheck           time.Duration
	DelayAfterAdd     time.Duration
	DelayAfterDelete  time.Duration
	DelayAfterFailure time.Duration
	Utilization       float64
	SkipSystemPods    bool
	SkipLocalStorage  bool
	Cordon            bool
	GracefulSeconds   int
}

// Tag is a tag that a group must carry; without Value any value will do.
type Tag struct{ Key, Value string }

// Accepted, because roles pass them, and without an effect.
var withoutEffect = []string{"aws-use-static-instance-list", "logtostderr", "stderrthreshold", "v"}

func parseSettings(arguments []string, usage io.Writer) (Settings, error) {
	s := Settings{}
	flags := pflag.NewFlagSet("cluster-autoscaler-stand-in", pflag.ContinueOnError)
	flags.SetOutput(usage)
	flags.SortFlags = true

	provider := flags.String("cloud-provider", "", "always aws")
	discovery := flags.StringArray("node-group-auto-discovery", nil, "asg:tag=KEY[=VALUE],... all of which a group must carry")
	expander := flags.String("expander", "least-waste", "always least-waste")
	flags.StringVar(&s.Address, "address", ":8085", "where /health-check is answered")
	flags.StringVar(&s.CloudConfig, "cloud-config", "", "file with ServiceOverride sections")
	flags.StringVar(&s.Kubeconfig, "kubeconfig", "", "default: the pod's own service account")
	flags.BoolVar(&s.LeaderElect, "leader-elect", true, "wait for lease cluster-autoscaler")
	flags.StringVar(&s.Namespace, "namespace", "kube-system", "of the lease and the status")
	flags.DurationVar(&s.ScanInterval, "scan-interval", 10*time.Second, "time between two looks")
	flags.DurationVar(&s.ProvisionTime, "max-node-provision-time", 15*time.Minute, "after which an instance without a node is ended")
	flags.IntVar(&s.MaxNodesTotal, "max-nodes-total", 0, "of the whole cluster; 0: no limit")
	flags.DurationVar(&s.TemplateCache, "node-info-cache-expire-time", 87600*time.Hour, "how long a group's last node stays its template")
	flags.DurationVar(&s.FirstBackoff, "initial-node-group-backoff-duration", 5*time.Minute, "after a failed scale-up")
	flags.DurationVar(&s.LongestBackoff, "max-node-group-backoff-duration", 30*time.Minute, "doubled up to this")
	flags.BoolVar(&s.ScaleDown, "scale-down-enabled", true, "")
	flags.DurationVar(&s.UnneededTime, "scale-down-unneeded-time", 10*time.Minute, "")
	flags.DurationVar(&s.UnreadyTime, "scale-down-unready-time", 20*time.Minute, "")
	flags.DurationVar(&s.Recheck, "unremovable-node-recheck-timeout", 5*time.Minute, "")
	flags.DurationVar(&s.DelayAfterAdd, "scale-down-delay-after-add", 10*time.Minute, "")
	flags.DurationVar(&s.DelayAfterDelete, "scale-down-delay-after-delete", 0, "0: the scan interval")
	flags.DurationVar(&s.DelayAfterFailure, "scale-down-delay-after-failure", 3*time.Minute, "")
	flags.Float64Var(&s.Utilization, "scale-down-utilization-threshold", 0.5, "of CPU or memory, the larger; FPGAs don't count, as with upstream")
	flags.BoolVar(&s.SkipSystemPods, "skip-nodes-with-system-pods", true, "")
	flags.BoolVar(&s.SkipLocalStorage, "skip-nodes-with-local-storage", true, "")
	flags.BoolVar(&s.Cordon, "cordon-node-before-terminating", false, "")
	flags.IntVar(&s.GracefulSeconds, "max-graceful-termination-sec", 600, "how long pods that are evicted may take")
	for _, name := range withoutEffect {
		flags.String(name, "", "accepted, without an effect")
		flags.Lookup(name).NoOptDefVal = "true"
	}

	if err := flags.Parse(arguments); err != nil {
		if !errors.Is(err, pflag.ErrHelp) {
			fmt.Fprintf(usage, "%v; the stand-in knows fewer flags than upstream's cluster-autoscaler (--help lists them)\n", err)
		}
		return s, err
	}
	if rest := flags.Args(); len(rest) > 0 {
		return s, fmt.Errorf("found %q; expected flags only", rest)
	}
	if *provider != "aws" {
		return s, fmt.Errorf("--cloud-provider: found %q; the stand-in knows aws only", *provider)
	}
	if *expander != "least-waste" {
		return s, fmt.Errorf("--expander: found %q; the stand-in knows least-waste only", *expander)
	}
	if s.DelayAfterDelete == 0 {
		s.DelayAfterDelete = s.ScanInterval
	}
	var err error
	s.Discovery, err = parseDiscovery(*discovery)
	return s, err
}

// parseDiscovery reads what cloudprovider/aws/auto_scaling_groups.go, parseASGAutoDiscoverySpec, reads.
func parseDiscovery(specs []string) ([]Tag, error) {
	if len(specs) != 1 {
		return nil, fmt.Errorf("--node-group-auto-discovery: found it %d times; expected it once", len(specs))
	}
	list, found := strings.CutPrefix(specs[0], "asg:tag=")
	if !found || list == "" {
		return nil, fmt.Errorf("--node-group-auto-discovery: found %q; expected asg:tag=KEY[=VALUE],...", specs[0])
	}
	var tags []Tag
	for _, word := range strings.Split(list, ",") {
		key, value, _ := strings.Cut(word, "=")
		if key == "" {
			return nil, fmt.Errorf("--node-group-auto-discovery: found a tag without a key in %q", list)
		}
		tags = append(tags, Tag{key, value})
	}
	return tags, nil
}
