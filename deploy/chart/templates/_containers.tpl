{{- define "iv.serverContainer" -}}
- name: server
  {{- include "iv.image" (dict "root" $ "image" .Values.image) | trim | nindent 2 }}
  {{- include "iv.containerSecurity" . | trim | nindent 2 }}
  envFrom:
    - configMapRef: {name: {{ include "iv.fullname" . }}}
  env:
    - name: IMAGE_VARIATIONS_THREADS
      valueFrom:
        resourceFieldRef: {containerName: server, resource: limits.cpu, divisor: "1"}
  ports:
    - {name: grpc, containerPort: 50051, protocol: TCP}
    - {name: health, containerPort: 50052, protocol: TCP}
    - {name: metrics, containerPort: 9464, protocol: TCP}
  # Ready: loaded, warm, and the gRPC port answers the server's own call. A device that is lost or hangs ends the process.
  startupProbe:
    grpc: {port: 50052}
    periodSeconds: 5
    failureThreshold: {{ div (add .Values.probes.startupSeconds 4) 5 }}
  readinessProbe:
    grpc: {port: 50052}
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: 1
  livenessProbe:
    tcpSocket: {port: health}
    periodSeconds: 20
    timeoutSeconds: 5
    failureThreshold: 3
  resources:
    {{- $resources := deepCopy .Values.resources }}
    {{- if .Values.gpu.enabled }}
    {{- range list "requests" "limits" }}
    {{- $_ := set (index $resources .) $.Values.gpu.resource $.Values.gpu.count }}
    {{- end }}
    {{- end }}
    {{- toYaml $resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- if ne .Values.model.source "image" }}
    - {name: model, mountPath: /model, readOnly: true}
    {{- end }}
    {{- range $name := include "iv.secrets" . | fromJson | keys | sortAlpha }}
    - {name: {{ $name }}, mountPath: /{{ $name }}, readOnly: true}
    {{- end }}
{{- end }}

{{/* Does nothing when the converted model is there already. */}}
{{- define "iv.fetchContainer" -}}
{{- with .Values.model.download }}
- name: fetch
  {{- include "iv.image" (dict "root" $ "image" .image) | trim | nindent 2 }}
  {{- include "iv.containerSecurity" $ | trim | nindent 2 }}
  args: [{{ .repository | quote }}, {{ .revision | quote }}, {{ include "iv.modelDir" $ | quote }}]
  env:
    - {name: HOME, value: /tmp}
    - {name: TMPDIR, value: /model}
  resources:
    {{- toYaml .resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: model, mountPath: /model}
{{- end }}
{{- end }}

{{/* Volume to secret, as JSON: each is mounted at the folder of its name. */}}
{{- define "iv.secrets" -}}
{{- $secrets := dict }}
{{- if .Values.tls.enabled }}
{{- $_ := set $secrets "tls" .Values.tls.secretName }}
{{- with .Values.tls.clientCa.secretName }}{{ $_ := set $secrets "client-ca" . }}{{ end }}
{{- end }}
{{- with .Values.tokens.secretName }}{{ $_ := set $secrets "tokens" . }}{{ end }}
{{- with .Values.jwt.secretName }}{{ $_ := set $secrets "jwt" . }}{{ end }}
{{- $secrets | toJson }}
{{- end }}

{{- define "iv.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if ne .Values.model.source "image" }}
- name: model
  {{- include "iv.modelVolume" . | trim | nindent 2 }}
{{- end }}
{{- range $name, $secret := include "iv.secrets" . | fromJson }}
- name: {{ $name }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 0440
    {{- if eq $name "client-ca" }}
    items: [{key: ca.crt, path: ca.crt}]
    {{- end }}
{{- end }}
{{- end }}
