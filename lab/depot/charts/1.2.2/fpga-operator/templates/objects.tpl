{{- $name := .Chart.Name }}
{{- if .Values.license }}
apiVersion: v1
kind: Secret
metadata: {name: {{ $name }}-license, namespace: kube-system}
type: Opaque
stringData: {CORAL_LICENSE_KEY: {{ .Values.license | quote }}}
---
{{- end }}
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: {{ $name }}, namespace: kube-system}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: {{ $name }}}}
  template:
    metadata: {labels: {app.kubernetes.io/name: {{ $name }}}}
    spec:
      {{- if .Values.nodeSelector }}
      nodeSelector: {{ .Values.nodeSelector | toJson }}
      {{- end }}
      priorityClassName: system-node-critical
      containers:
      - name: coral
        image: {{ .Values.coral.image }}:{{ default .Chart.AppVersion .Values.coral.tag }}
        imagePullPolicy: {{ .Values.coral.pullPolicy }}
        # without a license there is no such Secret, and no container starts
        envFrom: [{secretRef: {name: {{ $name }}-license}}]
        securityContext: {privileged: true}
        volumeMounts: [{name: device-plugins, mountPath: /var/lib/kubelet/device-plugins}]
      - name: monitor
        image: {{ .Values.monitor.image }}:{{ .Values.monitor.tag }}
      volumes:
      - {name: device-plugins, hostPath: {path: /var/lib/kubelet/device-plugins}}
