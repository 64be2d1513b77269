{{/*
What this release asks for, as JSON: the spec of its AIMDeployment, and what NOTES has to say about how it came to be.

Precedence of engine arguments and variables: overrides > vllm_args and env_vars > hardware and performance > the recipe.
*/}}
{{- define "aim.request" -}}
{{- $values := .Values.aim_engine -}}
{{- /* A key of a values file with nothing below it is null. */ -}}
{{- $over := $values.overrides | default dict -}}
{{- $more := $values.spec | default dict -}}
{{- $hardware := $values.hardware | default dict -}}
{{- $performance := $values.performance | default dict -}}
{{- $notes := list -}}
{{- $live := (lookup "aim.engine.amd.com/v1alpha1" "AIMDeployment" .Release.Namespace .Release.Name) | default dict -}}
{{- $annotations := dig "metadata" "annotations" dict $live | default dict -}}
{{- $before := dict -}}
{{- if $live -}}{{- $before = get $annotations "aim.engine.amd.com/chart-spec" | default "{}" | fromJson -}}{{- end -}}
{{- $level := include "aim.logLevel" . -}}
{{- /* The level that debug or log_level set before; what the engine logs otherwise is its own default. */ -}}
{{- if and (eq $level "INFO") (not (and (kindIs "invalid" $values.debug) (kindIs "invalid" $values.log_level))) -}}
{{- $env := dig "overrides" "env" dict $before -}}
{{- $_ := unset $env "VLLM_LOGGING_LEVEL" -}}
{{- if and (hasKey (get $before "overrides" | default dict) "env") (not $env) -}}{{- $_ := unset $before.overrides "env" -}}{{- end -}}
{{- if and (hasKey $before "overrides") (not $before.overrides) -}}{{- $_ := unset $before "overrides" -}}{{- end -}}
{{- end -}}

{{- $wishes := dict -}}
{{- if not $values.auto_select -}}{{- $_ := set $wishes "autoSelect" false -}}{{- end -}}
{{- with coalesce $over.gpu_count $values.gpu_count -}}{{- $_ := set $wishes "gpuCount" (int64 .) -}}{{- end -}}
{{- with coalesce $over.precision $values.precision -}}{{- $_ := set $wishes "precision" (include "aim.precision" .) -}}{{- end -}}
{{- with coalesce $over.backend $values.backend -}}{{- $_ := set $wishes "backend" . -}}{{- end -}}
{{- with $hardware.gpu_type -}}{{- $_ := set $wishes "gpuModel" . -}}{{- end -}}
{{- with $values.custom_recipe -}}{{- $_ := set $wishes "configMap" . -}}{{- end -}}
{{- if .Values.selector.enabled -}}{{- $_ := set $wishes "decisionConfigMap" (include "aim.decisionName" .) -}}{{- end -}}

{{- $backend := coalesce $over.backend $values.backend (dig "recipe" "backend" "" $more) (dig "recipe" "backend" "" $before) "vllm" -}}
{{- $args := dict -}}
{{- with $hardware.memory_utilization -}}
{{- $_ := set $args (ternary "mem-fraction-static" "gpu-memory-utilization" (eq $backend "sglang")) (float64 .) -}}
{{- end -}}
{{- range $given := list $values.vllm_args $over.vllm_args -}}
{{- $seen := dict -}}
{{- range $name, $value := $given -}}
{{- $flag := include "aim.flag" (dict "name" $name "backend" $backend) -}}
{{- with get $seen $flag -}}{{- fail (printf "\n\nvllm_args.%s and vllm_args.%s are both %s: keep one" . $name $flag) -}}{{- end -}}
{{- $_ := set $seen $flag $name -}}
{{- if ne $flag (replace "_" "-" $name) -}}{{- $notes = append $notes (printf "vllm_args.%s is vLLM's %s" $name $flag) -}}{{- end -}}
{{- $_ := set $args $flag (include "aim.number" $value | fromJson).value -}}
{{- end -}}
{{- end -}}

{{- $env := dict -}}
{{- range $given := list $values.env_vars $over.env_vars -}}
{{- range $name, $value := $given -}}
{{- $why := get (include "aim.retired" $ | fromJson) $name -}}
{{- if $why -}}{{- $notes = append $notes (printf "env_vars.%s is left out: %s" $name $why) -}}
{{- else -}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) -}}{{- $value = int64 $value -}}{{- end -}}
{{- $_ := set $env $name (toString $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (ne $level "INFO") (not (hasKey $env "VLLM_LOGGING_LEVEL")) -}}{{- $_ := set $env "VLLM_LOGGING_LEVEL" $level -}}{{- end -}}

{{- $overrides := dict -}}
{{- with $args -}}{{- $_ := set $overrides "engineArgs" . -}}{{- end -}}
{{- with $env -}}{{- $_ := set $overrides "env" . -}}{{- end -}}
{{- with $hardware.cpu_cores -}}{{- $_ := set $overrides "resources" (dict "cpu" (toString .)) -}}{{- end -}}

{{- $load := dict -}}
{{- with $performance.max_batch_size -}}{{- $_ := set $load "maxBatchSize" (int64 .) -}}{{- end -}}
{{- with $performance.max_input_length -}}{{- $_ := set $load "maxInputTokens" (int64 .) -}}{{- end -}}
{{- with $performance.max_output_length -}}{{- $_ := set $load "maxOutputTokens" (int64 .) -}}{{- end -}}

{{- $model := dict -}}
{{- with $values.model_id -}}{{- $_ := set $model "id" . -}}
{{- else -}}
{{- $installed := dig "spec" "model" "id" "" $live -}}
{{- if $installed -}}{{- $_ := set $model "id" $installed -}}
{{- else if not (or $values.custom_recipe (dig "recipe" "name" "" $more) (dig "recipe" "configMap" "" $more)) -}}{{- $_ := set $model "id" "Qwen/Qwen3-32B" -}}{{- end -}}
{{- end -}}

{{- $spec := dict -}}
{{- $measured := dict -}}
{{- if $values.performance_tuning -}}{{- $_ := set $measured "enabled" true -}}{{- end -}}
{{- range $name, $part := dict "model" $model "recipe" $wishes "overrides" $overrides "workload" $load "monitoring" $measured -}}
{{- if $part -}}{{- $_ := set $spec $name $part -}}{{- end -}}
{{- end -}}
{{- $spec = mergeOverwrite $spec (deepCopy $more) -}}

{{- $carried := list -}}
{{- if and $before (not $values.accept_changes) -}}
{{- range $key := list "gpuCount" "precision" "backend" "gpuModel" "configMap" "name" "autoSelect" -}}
{{- $was := dig "recipe" $key nil $before -}}
{{- if and (not (kindIs "invalid" $was)) (not (hasKey (get $spec "recipe" | default dict) $key)) -}}
{{- fail (printf "\n\nThe installed release asks for recipe.%s %v, and these values no longer do: that would change the running model.\nhelm upgrade forgets earlier --set values. Repeat them, add --reuse-values, or add --set aim_engine.accept_changes=true if it is meant." $key $was) -}}
{{- end -}}
{{- end -}}
{{- $merged := mergeOverwrite (deepCopy $before) (deepCopy $spec) -}}
{{- range $part, $was := $before -}}
{{- if and (kindIs "map" $was) (ne (toJson (get $merged $part)) (toJson (get $spec $part | default dict))) -}}{{- $carried = append $carried $part -}}
{{- else if not (hasKey $spec $part) -}}{{- $carried = append $carried $part -}}{{- end -}}
{{- end -}}
{{- $spec = $merged -}}
{{- end -}}

{{- $length := dig "overrides" "engineArgs" "max-model-len" nil $spec -}}
{{- $needed := add (dig "workload" "maxInputTokens" 0 $spec | int64) (dig "workload" "maxOutputTokens" 0 $spec | int64) -}}
{{- if and (or (kindIs "int64" $length) (kindIs "float64" $length) (kindIs "int" $length)) (lt (int64 $length) (int64 $needed)) -}}
{{- fail (printf "\n\naim_engine.vllm_args.max_model_len %d is below performance.max_input_length + max_output_length (%d): raise it to %d or leave it out" (int64 $length) (int64 $needed) (int64 $needed)) -}}
{{- end -}}
{{- dict "spec" $spec "notes" ($notes | uniq) "carried" $carried | toJson -}}
{{- end -}}

{{/* Names of other servers for what vLLM calls otherwise; all others, and those of another backend, are taken as they are, with dashes. */}}
{{- define "aim.flag" -}}
{{- $known := dict
  "max_batch_size" "max-num-seqs"
  "max_batch_total_tokens" "max-num-batched-tokens"
  "max_batch_prefill_tokens" "max-num-batched-tokens"
  "max_seq_len" "max-model-len"
  "max_sequence_length" "max-model-len"
  "max_context_len" "max-model-len"
  "max_context_length" "max-model-len"
  "context_length" "max-model-len"
  "mem_fraction_static" "gpu-memory-utilization"
  "memory_utilization" "gpu-memory-utilization" -}}
{{- if eq .backend "sglang" -}}{{- $known = dict -}}{{- end -}}
{{- get $known (replace "-" "_" .name) | default (replace "_" "-" .name) -}}
{{- end -}}

{{/* Variables that do nothing or harm, with the reason. */}}
{{- define "aim.retired" -}}
{{- dict
  "PYTORCH_ROCM_ARCH" "it is read when PyTorch is built, and the image is built already"
  "VLLM_USE_ROCM" "vLLM finds the platform by itself; no release reads it"
  "VLLM_ENABLE_METRICS" "metrics are always on; no release reads it"
  "VLLM_CACHE_DIR" "no release reads it; the operator mounts the cache"
  "VLLM_DTYPE" "no release reads it; set precision"
  "VLLM_USE_FP8" "no release reads it; set precision=fp8"
  "VLLM_USE_BF16" "no release reads it; set precision=bf16"
  "VLLM_USE_FP16" "no release reads it; set precision=fp16"
  "PYTORCH_ROCM_ALLOC_CONF" "PyTorch reads PYTORCH_ALLOC_CONF"
  "HF_HUB_TRUST_REMOTE_CODE" "nothing reads it" | toJson -}}
{{- end -}}

{{/* Spellings of formats as the API has them. */}}
{{- define "aim.precision" -}}
{{- $known := dict "bfloat16" "bf16" "float16" "fp16" "half" "fp16" "float8" "fp8" "fp4" "mxfp4" -}}
{{- get $known (lower .) | default (lower .) -}}
{{- end -}}

{{/* Helm reads numbers of files as floats, and decimals of --set as text: whole ones are whole again, and decimals numbers. */}}
{{- define "aim.number" -}}
{{- $value := . -}}
{{- if and (kindIs "string" $value) (regexMatch "^[0-9]+[.][0-9]+$" $value) (eq (toString (float64 $value)) $value) -}}{{- $value = float64 $value -}}{{- end -}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) -}}{{- $value = int64 $value -}}{{- end -}}
{{- dict "value" $value | toJson -}}
{{- end -}}
