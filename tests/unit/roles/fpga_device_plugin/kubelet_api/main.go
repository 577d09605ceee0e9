// The messages and calls of the kubelet's device-plugin and PodResources APIs, as its own code describes them; api.json was written by
//
//	go run . > api.json
//
// in a module that requires k8s.io/kubelet v0.36.3.
package main

import (
	"encoding/json"
	"os"

	"google.golang.org/protobuf/reflect/protoreflect"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	pods "k8s.io/kubelet/pkg/apis/podresources/v1"
)

func main() {
	described := map[string]any{}
	for _, message := range []interface{ ProtoReflect() protoreflect.Message }{&plugin.Empty{}, &pods.ListPodResourcesRequest{}} {
		file := message.ProtoReflect().Descriptor().ParentFile()
		messages, services := map[string]any{}, map[string]any{}
		for i := range file.Messages().Len() {
			m := file.Messages().Get(i)
			fields := map[string]any{}
			for j := range m.Fields().Len() {
				f := m.Fields().Get(j)
				fields[string(f.Name())] = []any{f.Number(), f.Kind().String(), f.Cardinality() == protoreflect.Repeated}
			}
			messages[string(m.Name())] = fields
		}
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			calls := map[string]any{}
			for j := range s.Methods().Len() {
				c := s.Methods().Get(j)
				calls[string(c.Name())] = []any{c.Input().Name(), c.Output().Name(), c.IsStreamingServer()}
			}
			services[string(s.Name())] = calls
		}
		described[string(file.Package())] = map[string]any{"messages": messages, "services": services}
	}
	if err := json.NewEncoder(os.Stdout).Encode(described); err != nil {
		panic(err)
	}
}
