{{- define "iv.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "iv.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "iv.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "iv.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What pods are found by: never changes. */}}
{{- define "iv.selector" -}}
app.kubernetes.io/name: {{ include "iv.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "iv.labels" -}}
{{ include "iv.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Name, namespace and labels: dict "root" $ "suffix" "" */}}
{{- define "iv.metadata" -}}
name: {{ include "iv.fullname" .root }}{{ .suffix }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "iv.labels" .root | trim | nindent 2 }}
{{- end }}

{{/* dict "root" $ "image" .Values.image */}}
{{- define "iv.image" -}}
image: {{ if .image.digest -}}
  {{- printf "%s@%s" .image.repository .image.digest | quote }}
{{- else -}}
  {{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) | quote }}
{{- end }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{/* The restricted profile of Pod Security. Not a value: what the server needs does not change. */}}
{{- define "iv.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "iv.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "iv.modelDir" -}}
{{- if eq .Values.model.source "image" -}}
{{- .Values.model.path }}
{{- else if eq .Values.model.source "download" -}}
/model/{{ .Values.model.download.repository | replace "/" "--" }}--{{ .Values.model.download.revision }}
{{- else -}}
{{- printf "/model/%s" .Values.model.path | trimSuffix "/" }}
{{- end }}
{{- end }}

{{- define "iv.modelVolume" -}}
{{- with .Values.model }}
{{- if eq .source "claim" }}
persistentVolumeClaim: {claimName: {{ .claim.name }}, readOnly: true}
{{- else if eq .source "imageVolume" }}
image: {reference: {{ .imageVolume.reference }}, pullPolicy: {{ .imageVolume.pullPolicy }}}
{{- else if .download.claim.name }}
persistentVolumeClaim: {claimName: {{ .download.claim.name }}}
{{- else }}
emptyDir: {sizeLimit: {{ .download.sizeLimit }}}
{{- end }}
{{- end }}
{{- end }}
