{{/* Names and labels. */}}
{{- define "abmonitor.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What Deployments select by; it must never change. Takes (dict "root" $ "component" "worker"). */}}
{{- define "abmonitor.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "abmonitor.labels" -}}
{{ include "abmonitor.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "abmonitor.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "abmonitor.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "abmonitor.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "image.repository: no image of abmonitor is published; build deploy/Dockerfile, push it to your registry, and name it here" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The ports of abmonitor itself; everything else names them `http`. */}}
{{- define "abmonitor.port" -}}
{{- if eq .component "worker" }}8001{{ else }}8000{{ end -}}
{{- end -}}

{{/* Restricted: no root, no rights, nothing to write on but /tmp. */}}
{{- define "abmonitor.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAs.user }}
runAsUser: {{ . | int64 }}
{{- end }}
{{- with .Values.runAs.group }}
runAsGroup: {{ . | int64 }}
fsGroup: {{ . | int64 }} # who may read the secrets' files
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "abmonitor.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The name of the ConfigMap with the settings. */}}
{{- define "abmonitor.settingsName" -}}
{{- default (printf "%s-settings" (include "abmonitor.fullname" .)) .Values.existingSettings -}}
{{- end -}}

{{/* What every container is given; takes (dict "root" $ "settings" NAME "extraEnv" LIST "extraVolumeMounts" LIST). */}}
{{- define "abmonitor.containerInputs" -}}
{{- $root := .root -}}
env:
  {{- with $root.Values.kafka.servers }}
  - {name: ABMONITOR_KAFKA, value: {{ . | quote }}}
  {{- end }}
  {{- with .extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - {name: settings, mountPath: /etc/abmonitor, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if $root.Values.existingSecret }}
  - {name: secrets, mountPath: /run/secrets/abmonitor, readOnly: true}
  {{- end }}
  {{- with .extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "abmonitor.volumes" -}}
{{- $root := .root -}}
volumes:
  - {name: settings, configMap: {name: {{ .settings }}}}
  - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
  {{- with $root.Values.existingSecret }}
  - {name: secrets, secret: {secretName: {{ . }}, defaultMode: 0440}}
  {{- end }}
  {{- with .extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Rules and dashboards have literal addresses, as the demo has them; here they are yours. */}}
{{- define "abmonitor.linked" -}}
{{- .text | replace "http://localhost:8000" (trimSuffix "/" .links.monitor) | replace "http://localhost:3000" (trimSuffix "/" .links.grafana) -}}
{{- end -}}
