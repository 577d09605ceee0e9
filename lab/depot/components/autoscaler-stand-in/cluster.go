package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	kubeerrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// Cluster is the API server's side of it.
type Cluster struct {
	client    kubernetes.Interface
	namespace string
}

const (
	statusName = "cluster-autoscaler-status"
	// Between two looks whether evicted pods have gone.
	drainPoll = time.Second
)

func (c *Cluster) read(ctx context.Context, w *World) error {
	all := metav1.ListOptions{}
	nodes, nodesErr := c.client.CoreV1().Nodes().List(ctx, all)
	pods, podsErr := c.client.CoreV1().Pods("").List(ctx, all)
	daemons, daemonsErr := c.client.AppsV1().DaemonSets("").List(ctx, all)
	budgets, budgetsErr := c.client.PolicyV1().PodDisruptionBudgets("").List(ctx, all)
	if err := errors.Join(nodesErr, podsErr, daemonsErr, budgetsErr); err != nil {
		return err
	}
	w.Nodes, w.Pods = pointers(nodes.Items), pointers(pods.Items)
	w.Daemons, w.Budgets = pointers(daemons.Items), pointers(budgets.Items)
	return nil
}

func pointers[T any](items []T) []*T {
	found := make([]*T, len(items))
	for i := range items {
		found[i] = &items[i]
	}
	return found
}

// change updates a node, again where somebody else was faster. The node's object may have gone.
func (c *Cluster) change(ctx context.Context, name string, how func(*v1.Node)) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		how(node)
		_, err = c.client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
}

// mark keeps pods off a node that is about to go.
func (c *Cluster) mark(ctx context.Context, name string, cordon bool) error {
	return c.change(ctx, name, func(node *v1.Node) {
		taint := v1.Taint{Key: deletingTaint, Value: strconv.FormatInt(time.Now().Unix(), 10), Effect: v1.TaintEffectNoSchedule}
		node.Spec.Taints = append(without(node.Spec.Taints), taint)
		node.Spec.Unschedulable = node.Spec.Unschedulable || cordon
	})
}

func (c *Cluster) unmark(ctx context.Context, name string, cordon bool) error {
	return c.change(ctx, name, func(node *v1.Node) {
		node.Spec.Taints = without(node.Spec.Taints)
		if cordon {
			node.Spec.Unschedulable = false
		}
	})
}

func without(taints []v1.Taint) []v1.Taint {
	return slices.DeleteFunc(slices.Clone(taints), func(taint v1.Taint) bool { return taint.Key == deletingTaint })
}

// drain evicts the pods and waits until they have gone, or for longer than they may take.
func (c *Cluster) drain(ctx context.Context, pods []*v1.Pod, seconds int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+2*time.Minute)
	defer cancel()
	grace := int64(seconds)
	for _, pod := range pods {
		if own := pod.Spec.TerminationGracePeriodSeconds; own != nil && *own < grace {
			grace = *own
		}
		eviction := &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
			DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &grace, Preconditions: &metav1.Preconditions{UID: &pod.UID}},
		}
		if err := c.client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, eviction); err != nil && !kubeerrors.IsNotFound(err) {
			return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	for _, pod := range pods {
		for {
			found, err := c.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
			if kubeerrors.IsNotFound(err) || (err == nil && (found.UID != pod.UID || hasEnded(found))) {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("pod %s/%s has not gone: %w", pod.Namespace, pod.Name, ctx.Err())
			case <-time.After(drainPoll):
			}
		}
	}
	return nil
}

func (c *Cluster) writeStatus(ctx context.Context, text string) error {
	maps := c.client.CoreV1().ConfigMaps(c.namespace)
	object := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: statusName}, Data: map[string]string{"status": text}}
	_, err := maps.Update(ctx, object, metav1.UpdateOptions{})
	if kubeerrors.IsNotFound(err) {
		_, err = maps.Create(ctx, object, metav1.CreateOptions{})
	}
	return err
}
