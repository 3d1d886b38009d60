{{- define "mde-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters, so that the names of a StatefulSet's pods and other objects are valid. */}}
{{- define "mde-exporter.fullname" -}}
{{- $name := include "mde-exporter.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "mde-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mde-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mde-exporter.labels" -}}
{{ include "mde-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* metadata needs context. name, namespace, labels and annotations are optional. */}}
{{- define "mde-exporter.metadata" -}}
name: {{ default (include "mde-exporter.fullname" .context) .name }}
namespace: {{ default .context.Release.Namespace .namespace }}
labels:
  {{- include "mde-exporter.labels" .context | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "mde-exporter.serviceAccountName" -}}
{{- $default := ternary (include "mde-exporter.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $default .Values.serviceAccount.name }}
{{- end }}

{{- define "mde-exporter.configSecret" -}}
{{- if .Values.existingConfigSecret -}}
{{- .Values.existingConfigSecret }}
{{- else if .Values.config -}}
{{- include "mde-exporter.fullname" . }}
{{- end -}}
{{- end }}

{{- define "mde-exporter.probe" -}}
{{- if .context.Values.web.authentication -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ .path }}
  port: metrics
  {{- if .context.Values.web.tls }}
  scheme: HTTPS
  {{- end }}
{{- end }}
{{- end }}

{{/* Mistakes for which the schema has no readable message. */}}
{{- define "mde-exporter.check" -}}
{{- if and .Values.config .Values.existingConfigSecret }}
{{- fail "config and existingConfigSecret are both set: use one of them" }}
{{- end }}
{{- if and .Values.files (not .Values.config) }}
{{- fail "files are only mounted together with config: put them into existingConfigSecret, or set config" }}
{{- end }}
{{- if not (or .Values.config .Values.existingConfigSecret .Values.demo) }}
{{- fail "nothing to export: set config, existingConfigSecret or demo, as in the chart's examples/" }}
{{- end }}
{{- if and (eq .Values.kind "Deployment") (gt (int .Values.shards) 1) }}
{{- fail "shards needs kind: StatefulSet" }}
{{- end }}
{{- end }}

{{- define "mde-exporter.podTemplate" -}}
{{- $config := include "mde-exporter.configSecret" . -}}
metadata:
  labels:
    {{- include "mde-exporter.selectorLabels" . | nindent 4 }}
    {{- if .Values.workloadIdentity.enabled }}
    azure.workload.identity/use: "true"
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or .Values.podAnnotations (not .Values.serviceMonitor.enabled) }}
  annotations:
    {{- if not .Values.serviceMonitor.enabled }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "10058"
    {{- if .Values.web.tls }}
    prometheus.io/scheme: https
    {{- end }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  serviceAccountName: {{ include "mde-exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65534
    runAsGroup: 65534
    fsGroup: 65534
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
  - name: mde-exporter
    {{- with .Values.image }}
    image: {{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
    imagePullPolicy: {{ .pullPolicy }}
    {{- end }}
    args:
    {{- if $config }}
    - --config.file=/etc/mde_exporter/mde.yml
    {{- end }}
    {{- if .Values.demo }}
    - --demo
    {{- end }}
    - --storage.path=/var/lib/mde_exporter
    - --web.listen-address=:10058
    {{- if .Values.web.configSecret }}
    - --web.config.file=/etc/mde_exporter_web/web.yml
    {{- end }}
    {{- if gt (int .Values.shards) 1 }}
    - --total-shards={{ int .Values.shards }}
    - --pod-name=$(POD_NAME)
    {{- end }}
    {{- with .Values.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if or .Values.extraEnv (gt (int .Values.shards) 1) }}
    env:
    {{- if gt (int .Values.shards) 1 }}
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
    ports:
    - name: metrics
      containerPort: 10058
    livenessProbe:
      {{- include "mde-exporter.probe" (dict "context" . "path" "/-/healthy") | nindent 6 }}
    readinessProbe:
      {{- include "mde-exporter.probe" (dict "context" . "path" "/-/ready") | nindent 6 }}
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    volumeMounts:
    - name: storage
      mountPath: /var/lib/mde_exporter
    {{- if $config }}
    - name: config
      mountPath: /etc/mde_exporter
      readOnly: true
    {{- end }}
    {{- if .Values.web.configSecret }}
    - name: web
      mountPath: /etc/mde_exporter_web
      readOnly: true
    {{- end }}
    {{- range $i, $name := .Values.secrets }}
    - name: secret-{{ $i }}
      mountPath: /etc/mde_exporter_secrets/{{ $name }}
      readOnly: true
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
  {{- if eq .Values.kind "Deployment" }}
  - name: storage
    emptyDir:
      sizeLimit: {{ .Values.storage.size }}
  {{- end }}
  {{- if $config }}
  - name: config
    secret:
      secretName: {{ $config }}
      defaultMode: 0440
  {{- end }}
  {{- with .Values.web.configSecret }}
  - name: web
    secret:
      secretName: {{ . }}
      defaultMode: 0440
  {{- end }}
  {{- range $i, $name := .Values.secrets }}
  - name: secret-{{ $i }}
    secret:
      secretName: {{ $name }}
      defaultMode: 0440
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
  {{- with get $.Values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}
