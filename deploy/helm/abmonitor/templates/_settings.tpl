{{/* What the chart knows of the settings, as JSON; {} where it cannot look into them. */}}
{{- define "abmonitor.settings" -}}
{{- $found := dict -}}
{{- if .Values.settings -}}
{{- $found = fromYaml .Values.settings -}}
{{- if hasKey $found "Error" -}}
{{- fail (printf "settings: this is no YAML: %s" $found.Error) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* The topics that workers read, and their consumer group, as stream and abmonitor have them. */}}
{{- define "abmonitor.topics" -}}
{{- $settings := include "abmonitor.settings" . | fromJson -}}
{{- if .Values.kafka.topics -}}
{{- toJson .Values.kafka.topics -}}
{{- else if $settings.sources -}}
{{- keys $settings.sources | sortAlpha | toJson -}}
{{- else -}}
{{- toJson (list "outcomes" "predictions") -}}
{{- end -}}
{{- end -}}

{{- define "abmonitor.group" -}}
{{- $settings := include "abmonitor.settings" . | fromJson -}}
{{- $kafka := default dict $settings.kafka -}}
{{- coalesce .Values.kafka.group $kafka.group (printf "abmonitor-%s" (default "default" $settings.deployment)) -}}
{{- end -}}

{{/* The Rollouts that the monitor may abort: {"namespace/name": …}. */}}
{{- define "abmonitor.rollouts" -}}
{{- $found := dict -}}
{{- range .Values.argo.rollouts -}}
{{- $_ := set $found (printf "%s/%s" .namespace .name) (dict "namespace" .namespace "name" .name) -}}
{{- end -}}
{{- range (include "abmonitor.settings" . | fromJson).experiments -}}
{{- $argo := default dict (default dict .on_breach).argo -}}
{{- if and $argo.rollout (not $argo.kubeconfig) -}}
{{- $namespace := default "default" $argo.namespace -}}
{{- $_ := set $found (printf "%s/%s" $namespace $argo.rollout) (dict "namespace" $namespace "name" $argo.rollout) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/*
Refuses what would render, and then not do what was meant. `abmonitor check` refuses what is wrong in the settings
themselves.
*/}}
{{- define "abmonitor.check" -}}
{{- $v := .Values -}}
{{- $settings := include "abmonitor.settings" . | fromJson -}}
{{- if and $v.settings $v.existingSettings -}}
{{- fail "settings and existingSettings are both given: which of them is meant?" -}}
{{- end -}}
{{- if not (or $v.settings $v.existingSettings) -}}
{{- fail "settings: give your settings file, as --set-file settings=settings.yaml, or name a ConfigMap in existingSettings; there is no default, so that an upgrade without it cannot stop watching your experiments" -}}
{{- end -}}
{{- if $v.settings -}}
{{- include "abmonitor.checkSettings" (dict "root" . "settings" $settings) -}}
{{- else -}}
{{- if $v.dryRun -}}
{{- fail (printf "dryRun: the chart cannot look into the ConfigMap %s; give the file as settings, or leave dryRun out and see `abmonitor check`" $v.existingSettings) -}}
{{- end -}}
{{- if and $v.worker.autoscaling.enabled (not (and $v.kafka.topics $v.kafka.group)) -}}
{{- fail (printf "worker.autoscaling: the chart cannot look into the ConfigMap %s; say kafka.topics and kafka.group" $v.existingSettings) -}}
{{- end -}}
{{- end -}}
{{- $scaling := $v.worker.autoscaling -}}
{{- if $scaling.enabled -}}
{{- if not $v.kafka.servers -}}
{{- fail "worker.autoscaling needs kafka.servers: KEDA asks Kafka how far workers are behind" -}}
{{- end -}}
{{- if gt (int $scaling.maxReplicas) (int $v.kafka.partitions) -}}
{{- fail (printf "worker.autoscaling.maxReplicas: %d workers for %d partitions (kafka.partitions): those above would have nothing to do" (int $scaling.maxReplicas) (int $v.kafka.partitions)) -}}
{{- end -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "worker.autoscaling.minReplicas: expected at most maxReplicas (%d), got %d" (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- end -}}
{{- else if gt (int $v.worker.replicas) (int $v.kafka.partitions) -}}
{{- fail (printf "worker.replicas: %d workers for %d partitions (kafka.partitions): those above would have nothing to do" (int $v.worker.replicas) (int $v.kafka.partitions)) -}}
{{- end -}}
{{- if and (or $v.metrics.rules.enabled $v.metrics.dashboards.enabled) (not (and $v.links.monitor $v.links.grafana)) -}}
{{- fail "links.monitor and links.grafana: say where people reach the monitor and Grafana; alerts and dashboards point there" -}}
{{- end -}}
{{- if and $v.argo.enabled (eq (include "abmonitor.rollouts" .) "{}") -}}
{{- fail "argo.enabled: neither the settings nor argo.rollouts name a Rollout that may be aborted" -}}
{{- end -}}
{{- end -}}

{{- define "abmonitor.checkSettings" -}}
{{- $v := .root.Values -}}
{{- $settings := .settings -}}
{{- range $component, $values := dict "worker" $v.worker "monitor" $v.monitor -}}
{{- $names := list -}}
{{- range $values.extraEnv -}}{{- $names = append $names .name -}}{{- end -}}
{{- if not (or $settings.redis (has "ABMONITOR_REDIS" $names)) -}}
{{- fail (printf "settings: where is Redis? Say `redis: {file: /run/secrets/abmonitor/redis}`, and name the Secret that has the key `redis` in existingSecret; or give ABMONITOR_REDIS in %s.extraEnv" $component) -}}
{{- end -}}
{{- if not (or (default dict $settings.kafka).servers $v.kafka.servers (has "ABMONITOR_KAFKA" $names)) -}}
{{- fail "kafka.servers: say where Kafka is (host:port, several with commas between)" -}}
{{- end -}}
{{- end -}}
{{- if and (contains "/run/secrets/abmonitor/" $v.settings) (not $v.existingSecret) -}}
{{- fail "existingSecret: the settings name files in /run/secrets/abmonitor; say which Secret has them" -}}
{{- end -}}
{{- $acting := list -}}
{{- range $settings.experiments -}}
{{- $breach := default dict .on_breach -}}
{{- if not (eq (toString $breach.dry_run) "true") -}}{{- $acting = append $acting .name -}}{{- end -}}
{{- if and (eq (toString $breach.action) "argo") (not (default dict $breach.argo).kubeconfig) (not $v.argo.enabled) -}}
{{- fail (printf "argo.enabled: %s rolls back by aborting a Rollout; the monitor needs a Role for that" .name) -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.egress.monitor) (eq (toString $breach.action) "webhook") -}}
{{- fail (printf "networkPolicy.egress.monitor: %s sends its orders to a webhook, and the NetworkPolicy would not let them out; add a rule for it" .name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.egress.monitor) (default dict $settings.notify).to -}}
{{- fail "networkPolicy.egress.monitor: the settings notify people, and the NetworkPolicy would not let that out; add a rule for each of notify.to" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.ingress.alertmanager) (default dict (default dict $settings.hooks).alertmanager).alerts -}}
{{- fail "networkPolicy.ingress.alertmanager: the settings let alerts roll back, and the NetworkPolicy would not let Alertmanager in; name it" -}}
{{- end -}}
{{- if and $v.dryRun $acting -}}
{{- fail (printf "dryRun: %s would act; say `on_breach: {dry_run: true}` in the settings of each, or leave dryRun out" (join ", " $acting)) -}}
{{- end -}}
{{- end -}}
