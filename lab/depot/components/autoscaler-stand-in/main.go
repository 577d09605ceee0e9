// The stand-in of the lab's autoscaler: see README.md for what it does and what it does not. It is not upstream's cluster-autoscaler.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
)

const (
	whoIAm = "stand-in, not upstream's cluster-autoscaler"
	// After which /health-check tells the kubelet to start it anew.
	longestSilence = 10 * time.Minute
	longestLook    = time.Minute
)

// Autoscaler looks, decides and does.
type Autoscaler struct {
	settings Settings
	cloud    *Cloud
	cluster  *Cluster
	events   record.EventRecorder
	memory   *Memory
	mutex    sync.Mutex // of memory: removals take their time beside the looks
	removals sync.WaitGroup
	lastLook atomic.Int64
}

func main() {
	settings, err := parseSettings(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster-autoscaler-stand-in:", err)
		os.Exit(2)
	}
	if err := run(settings); err != nil {
		fmt.Fprintln(os.Stderr, "cluster-autoscaler-stand-in:", err)
		os.Exit(1)
	}
}

func run(settings Settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	klog.Infof("This is a %s.", whoIAm)
	config, err := clientcmd.BuildConfigFromFlags("", settings.Kubeconfig)
	if err != nil {
		return err
	}
	config.UserAgent = product
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	cloud, err := newCloud(ctx, settings.CloudConfig)
	if err != nil {
		return err
	}
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	a := &Autoscaler{
		settings: settings, cloud: cloud, cluster: &Cluster{client, settings.Namespace}, memory: newMemory(),
		events: broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: product}),
	}
	a.lastLook.Store(time.Now().UnixNano())
	go a.serve()
	if !settings.LeaderElect {
		return a.loop(ctx)
	}
	return a.lead(ctx, stop)
}

func (a *Autoscaler) serve() {
	handler := func(w http.ResponseWriter, _ *http.Request) {
		if silent := time.Since(time.Unix(0, a.lastLook.Load())); silent > longestSilence {
			http.Error(w, fmt.Sprintf("no look for %s", silent), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "OK, %s\n", whoIAm)
	}
	http.HandleFunc("/health-check", handler)
	klog.Errorf("%s: %v", a.settings.Address, http.ListenAndServe(a.settings.Address, nil))
	os.Exit(1)
}

// lead runs the loop while nobody else does.
func (a *Autoscaler) lead(ctx context.Context, stop func()) error {
	hostname, _ := os.Hostname()
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: a.settings.Namespace, Name: "cluster-autoscaler"},
		Client:     a.cluster.client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: hostname + "_" + product},
	}
	ended := make(chan error, 1)
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { ended <- a.loop(ctx); stop() },
			OnStoppedLeading: func() {
				if ctx.Err() == nil {
					klog.Error("lost the lease")
					os.Exit(1)
				}
			},
		},
	})
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Second): // the lease was never ours
		return nil
	}
}

// loop ends when AWS does not answer the first time, as upstream does.
func (a *Autoscaler) loop(ctx context.Context) error {
	if _, _, err := a.cloud.read(ctx, a.settings.Discovery); err != nil {
		return fmt.Errorf("cannot read the groups: %w", err)
	}
	if err := a.clearMarks(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		begun := time.Now()
		if err := a.once(ctx); err != nil && ctx.Err() == nil {
			klog.Errorf("this look failed: %v", err)
		}
		a.lastLook.Store(time.Now().UnixNano())
		select {
		case <-ctx.Done():
		case <-time.After(a.settings.ScanInterval - time.Since(begun)):
		}
	}
	a.removals.Wait()
	return nil
}

// clearMarks takes back what a former run had begun.
func (a *Autoscaler) clearMarks(ctx context.Context) error {
	var w World
	if err := a.cluster.read(ctx, &w); err != nil {
		return err
	}
	for _, node := range w.Nodes {
		if len(without(node.Spec.Taints)) < len(node.Spec.Taints) {
			if err := a.cluster.unmark(ctx, node.Name, a.settings.Cordon); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Autoscaler) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, longestLook)
	defer cancel()
	w := World{Now: time.Now()}
	var err error
	if w.Groups, w.Failures, err = a.cloud.read(ctx, a.settings.Discovery); err != nil {
		return err
	}
	if err = a.cluster.read(ctx, &w); err != nil {
		return err
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	decision := a.memory.decide(w, a.settings)
	err = a.do(ctx, w, decision)
	return errors.Join(err, a.cluster.writeStatus(ctx, status(w, decision, err)))
}

func (a *Autoscaler) do(ctx context.Context, w World, d Decision) error {
	for _, why := range d.Skipped {
		klog.Errorf("%s; it brings no nodes", why)
	}
	for _, one := range d.End {
		klog.Warningf("instance %s of group %s is no node after %s: ended", one.Instance, one.Group, a.settings.ProvisionTime)
		a.memory.fail(one.Group, w.Now, a.settings)
		if err := a.cloud.end(ctx, one.Instance); err != nil {
			return err
		}
	}
	for _, one := range d.Lower {
		klog.Warningf("group %s: AWS cannot launch (%s): from %d to %d", one.Group, one.Why, one.From, one.To)
		a.memory.fail(one.Group, w.Now, a.settings)
		if err := a.cloud.setDesired(ctx, one.Group, one.To); err != nil {
			return err
		}
	}
	for pod, why := range d.Idle {
		klog.Infof("pod %s/%s starts no instance: %s", pod.Namespace, pod.Name, why)
		a.events.Eventf(pod, v1.EventTypeNormal, "NotTriggerScaleUp", "pod didn't trigger scale-up: %s (%s)", why, whoIAm)
	}
	if d.Raise != nil {
		if err := a.raise(ctx, w.Now, *d.Raise); err != nil {
			return err
		}
	}
	for _, one := range d.Remove {
		a.memory.leaving[one.Node.Name] = true
		a.removals.Go(func() { a.remove(context.WithoutCancel(ctx), one) })
	}
	return nil
}

func (a *Autoscaler) raise(ctx context.Context, now time.Time, r Raise) error {
	klog.Infof("group %s: from %d to %d instances for %d pods", r.Group, r.From, r.To, len(r.Pods))
	if err := a.cloud.setDesired(ctx, r.Group, r.To); err != nil {
		a.memory.fail(r.Group, now, a.settings)
		for _, pod := range r.Pods {
			a.events.Eventf(pod, v1.EventTypeWarning, "FailedToScaleUp", "group %s could not be raised to %d: %v (%s)", r.Group, r.To, err, whoIAm)
		}
		return err
	}
	a.memory.raised(r.Group, now)
	for _, pod := range r.Pods {
		a.events.Eventf(pod, v1.EventTypeNormal, "TriggeredScaleUp", "pod triggered scale-up: [{%s %d->%d}] (%s)", r.Group, r.From, r.To, whoIAm)
	}
	return nil
}

// remove drains a node and ends its instance; it goes on where the process is told to end, and is taken back where it fails.
func (a *Autoscaler) remove(ctx context.Context, r Removal) {
	klog.Infof("node %s of group %s is not needed: %d pods to evict, then its instance %s ends", r.Node.Name, r.Group, len(r.Evict), r.Instance)
	err := a.cluster.mark(ctx, r.Node.Name, a.settings.Cordon)
	if err == nil {
		err = a.cluster.drain(ctx, r.Evict, a.settings.GracefulSeconds)
	}
	if err == nil {
		err = a.cloud.end(ctx, r.Instance)
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	delete(a.memory.leaving, r.Node.Name)
	if err == nil {
		a.memory.lastDelete = time.Now()
		a.events.Eventf(r.Node, v1.EventTypeNormal, "ScaleDown", "node removed, instance %s ended (%s)", r.Instance, whoIAm)
		return
	}
	klog.Errorf("node %s stays: %v", r.Node.Name, err)
	a.memory.lastFailure = time.Now()
	a.events.Eventf(r.Node, v1.EventTypeWarning, "ScaleDownFailed", "node stays: %v (%s)", err, whoIAm)
	if err := a.cluster.unmark(ctx, r.Node.Name, a.settings.Cordon); err != nil {
		klog.Errorf("node %s keeps its taint %s: %v", r.Node.Name, deletingTaint, err)
	}
}

func status(w World, d Decision, failed error) string {
	lines := []string{"autoscaler: " + whoIAm, "time: " + w.Now.UTC().Format(time.RFC3339)}
	for _, group := range w.Groups {
		lines = append(lines, fmt.Sprintf("group %s: %d instances, %d wanted, of %d to %d", group.Name, len(group.Instances), group.Desired, group.Min, group.Max))
	}
	if d.Raise != nil {
		lines = append(lines, fmt.Sprintf("raised: %s from %d to %d", d.Raise.Group, d.Raise.From, d.Raise.To))
	}
	for _, one := range d.Remove {
		lines = append(lines, "removed: node "+one.Node.Name)
	}
	if failed != nil {
		lines = append(lines, "failed: "+failed.Error())
	}
	return strings.Join(lines, "\n") + "\n"
}
