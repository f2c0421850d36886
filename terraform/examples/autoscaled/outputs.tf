output "gateway_yaml" {
  description = "gateway.yaml of all gateways, with what each learns of itself between two `@`."
  value       = module.gateways.gateway_yaml["@node@"]
}

output "host_yaml" {
  description = "host.yaml of each function host."
  value       = module.hosts.host_yaml
}

output "directory_commands" {
  description = "What tells the directory of the tenant."
  value       = module.gateways.directory_commands
}

output "autoscaler" {
  description = "autoscaler.yaml, and what the autoscaler's role must allow."
  value       = { yaml = module.gateways.autoscaler_yaml, policy = module.gateways.autoscaler_policy }
}

output "policy" {
  description = "What the gateways may do at AWS's API."
  value       = module.gateways.policy
}
