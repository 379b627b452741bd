{{/* One name for everything that belongs to this release. */}}
{{- define "wsgi-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "wsgi-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wsgi-operator.labels" -}}
{{ include "wsgi-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "wsgi-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "wsgi-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create is false: name the ServiceAccount to use in serviceAccount.name" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A full image reference from {image, chart}: the digest wins over the tag, the tag over the chart's appVersion. */}}
{{- define "wsgi-operator.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{/* "true" where pods get their settings at creation: the cluster must have MutatingAdmissionPolicy. */}}
{{- define "wsgi-operator.admission" -}}
{{- $has := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- or (eq .Values.admission "always") (and (eq .Values.admission "auto") $has) }}
{{- end }}

{{/* The policy is no namespaced object: releases of one name in two namespaces must not share it. */}}
{{- define "wsgi-operator.admissionName" -}}
{{- printf "%s-%s" .Release.Namespace (include "wsgi-operator.fullname" .) | trunc 253 | trimSuffix "-" }}
{{- end }}
