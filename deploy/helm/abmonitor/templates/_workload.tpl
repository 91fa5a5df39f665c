{{/* A Deployment; takes (dict "root" $ "component" "worker" "values" .Values.worker "replicas" 2, nil: somebody scales it). */}}
{{- define "abmonitor.deployment" -}}
{{- $root := .root }}
{{- $v := .values }}
{{- $me := dict "root" $root "component" .component }}
{{- $name := printf "%s-%s" (include "abmonitor.fullname" $root) .component }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "abmonitor.labels" $me | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ int .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  minReadySeconds: 10 # partitions and leases have moved by then
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels: {{- include "abmonitor.selector" $me | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "abmonitor.labels" $me | nindent 8 }}
        {{- with $v.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- if $root.Values.settings }}
        checksum/settings: {{ sha256sum $root.Values.settings }} # other settings, other pods
        {{- end }}
        {{- with $v.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "abmonitor.serviceAccount" $root }}
      automountServiceAccountToken: {{ and (eq .component "monitor") $root.Values.argo.enabled }}
      enableServiceLinks: false
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $v.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      terminationGracePeriodSeconds: {{ int $v.terminationGracePeriodSeconds }} # it ends within 8 s by itself
      securityContext: {{- include "abmonitor.podSecurity" $root | nindent 8 }}
      containers:
        - name: {{ .component }}
          image: {{ include "abmonitor.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [abmonitor]
          args: [{{ .component }}, -c, /etc/abmonitor, --host, 0.0.0.0, --log-level, {{ $v.logLevel }}]
          ports:
            - {name: http, containerPort: {{ include "abmonitor.port" $me }}, protocol: TCP}
          startupProbe: # up to two minutes
            httpGet: {path: /healthz, port: http}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 60
          livenessProbe: # only that the event loop turns: a restart mends neither Kafka nor Redis
            httpGet: {path: /healthz, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe: # that the work goes on
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 3
          resources: {{- toYaml $v.resources | nindent 12 }}
          securityContext: {{- include "abmonitor.containerSecurity" $root | nindent 12 }}
          {{- include "abmonitor.containerInputs" (dict "root" $root "extraEnv" $v.extraEnv "extraVolumeMounts" $v.extraVolumeMounts) | nindent 10 }}
      {{- include "abmonitor.volumes" (dict "root" $root "settings" (include "abmonitor.settingsName" $root) "extraVolumes" $v.extraVolumes) | nindent 6 }}
      {{- include "abmonitor.placement" (dict "me" $me "values" $v) | nindent 6 }}
{{- end -}}

{{/* Where its pods run: apart from each other where that can be had, since both of one node go together. */}}
{{- define "abmonitor.placement" -}}
{{- $v := .values }}
{{- with $v.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if $v.affinity }}
  {{- toYaml $v.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "abmonitor.selector" .me | nindent 14 }}
  {{- end }}
topologySpreadConstraints:
  {{- if $v.topologySpreadConstraints }}
  {{- toYaml $v.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "abmonitor.selector" .me | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* A PodDisruptionBudget; takes the same as a Deployment. */}}
{{- define "abmonitor.disruption" -}}
{{- $me := dict "root" .root "component" .component }}
{{- if .values.podDisruptionBudget.enabled }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "abmonitor.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "abmonitor.labels" $me | nindent 4 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels: {{- include "abmonitor.selector" $me | nindent 6 }}
{{- end }}
{{- end -}}
