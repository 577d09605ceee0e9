{{- $name := .Chart.Name }}
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ $name }}, namespace: {{ .Release.Namespace }}}
---
apiVersion: v1
kind: Secret
metadata: {name: {{ $name }}, namespace: {{ .Release.Namespace }}}
type: Opaque
stringData: {{ if .Values.license }}{license: {{ .Values.license | quote }}}{{ else }}{}{{ end }}
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: inaccel}
spec: {attachRequired: false, volumeLifecycleModes: [Ephemeral]}
{{- if index .Values "fpga-discovery" "enabled" }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fpga-discovery, namespace: {{ .Release.Namespace }}}
data: {note: labels every node with a PCI device of vendor 10ee by inaccel/fpga}
{{- end }}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: {{ $name }}, namespace: {{ .Release.Namespace }}}
spec:
  selector: {matchLabels: {kind: DaemonSet, app.kubernetes.io/name: {{ $name }}}}
  template:
    metadata: {labels: {kind: DaemonSet, app.kubernetes.io/name: {{ $name }}}}
    spec:
      # the real one's, whatever the values say
      nodeSelector: {inaccel/fpga: enabled}
      priorityClassName: system-node-critical
      serviceAccountName: {{ $name }}
      hostPID: {{ .Values.driver.enabled }}
      initContainers:
      {{- if .Values.driver.enabled }}
      - name: driver
        image: {{ .Values.driver.image }}:{{ .Values.driver.tag }}
        securityContext: {privileged: true}
        volumeMounts: [{name: host, mountPath: /host}]
      {{- end }}
      - name: mkrt
        image: {{ .Values.mkrt.image }}:{{ .Values.mkrt.tag }}
        volumeMounts: [{name: host, mountPath: /host, readOnly: true}]
      containers:
      - name: coral
        image: {{ .Values.coral.image }}:{{ default .Chart.AppVersion .Values.coral.tag }}
        imagePullPolicy: {{ .Values.coral.pullPolicy }}
        env:
        {{- if .Values.coral.httpsProxy }}
        - {name: HTTPS_PROXY, value: {{ .Values.coral.httpsProxy | quote }}}
        {{- end }}
        {{- if .Values.license }}
        - {name: LICENSE, valueFrom: {secretKeyRef: {name: {{ $name }}, key: license}}}
        {{- end }}
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        securityContext: {privileged: true}
      - name: daemon
        image: {{ .Values.daemon.image }}:{{ .Values.daemon.tag }}
        env: [{name: DOCKER, value: disabled}]
        securityContext: {privileged: true}
        volumeMounts: [{name: kubelet, mountPath: {{ .Values.kubelet }}, mountPropagation: Bidirectional}]
      - name: monitor
        image: {{ .Values.monitor.image }}:{{ default .Chart.AppVersion .Values.monitor.tag }}
      volumes:
      - {name: host, hostPath: {path: /}}
      - {name: kubelet, hostPath: {path: {{ .Values.kubelet }}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ $name }}, namespace: {{ .Release.Namespace }}}
spec:
  selector: {matchLabels: {kind: Deployment, app.kubernetes.io/name: {{ $name }}}}
  template:
    metadata: {labels: {kind: Deployment, app.kubernetes.io/name: {{ $name }}}}
    spec:
      priorityClassName: system-cluster-critical
      serviceAccountName: {{ $name }}
      containers:
      - name: reef
        image: {{ .Values.reef.image }}:{{ .Values.reef.tag }}
