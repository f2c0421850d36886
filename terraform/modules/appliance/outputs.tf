output "nodes" {
  description = "Fixed nodes by name: `instance`, `platform` (address), `interface` (of the platform's side), and `tenants`: `address` and `interface` of each."
  value = {
    for name, node in var.nodes : name => {
      instance  = aws_instance.node[name].id
      platform  = local.platform_addresses[name]
      interface = aws_network_interface.platform[name].id
      tenants = {
        for tenant in keys(var.tenants) : tenant => {
          address   = local.tenant_addresses["${name}/${tenant}"]
          interface = aws_network_interface.tenant["${name}/${tenant}"].id
        }
      }
    }
  }
}

output "gateway_yaml" {
  description = "gateway.yaml of each fixed node; of a group's the one of all, with what a node learns of itself between two `@`, under the name `@node@`."
  value       = { for name, text in local.gateway_yaml : name => local.autoscaled ? text : replace(text, "@primary_interface@", var.instance.primary_interface) }
}

output "user_data" {
  description = "What cloud-init does at the first boot of each node, for people to read. There are no secrets in it, only their ARNs."
  value       = { for name, boot in module.boot : name => boot.cloud_config }
}

output "function_host" {
  description = "For `appliances` of the module function-host: tunnels, shards, HaVips and each host's inner addresses."
  value = {
    tunnel    = var.tunnel
    directory = var.directory == null ? null : { url = var.directory.url, ca = var.directory.ca }
    tenants = {
      for name, tenant in var.tenants : name => {
        key   = tenant.key
        cidrs = distinct(tenant.allow[*].to)
        shards = [
          for id, shard in local.shards : {
            shard      = shard.shard
            gateway    = shard.platform
            port       = shard.port
            next       = shard.next
            public_key = try(shard.wireguard.public_key, null)
            inner      = { for host, addresses in local.inner : host => addresses[id] }
          } if shard.of == name
        ]
      }
    }
  }
}

output "directory_commands" {
  description = "What tells a directory of the tenants and fixed gateways of this appliance."
  value = var.directory == null ? [] : concat(
    [for name, tenant in var.tenants : "portway directory tenant add ${name} --inner ${tenant.inner} --shards ${join(",", tenant.shards[*].shard)}"],
    [for name in keys(var.nodes) : "portway directory gateway add ${name} ${join(" ", [for id in keys(local.shards) : "--shard ${id}"])}"],
  )
}

output "ansible_inventory" {
  description = "An inventory for Ansible, YAML: the fixed nodes in the group `portway_gateways`, each with its `portway_gateway_config`."
  value = yamlencode({
    portway_gateways = {
      hosts = {
        for name in keys(var.nodes) : name => {
          ansible_host           = var.placement == "platform" ? local.platform_addresses[name] : one([for id, end in local.tenant_ends : local.tenant_addresses[id] if end.node == name])
          portway_gateway_config = yamldecode(replace(local.gateway_yaml[name], "@primary_interface@", var.instance.primary_interface))
        }
      }
    }
  })
}

output "havips" {
  description = "HaVips by shard (`TENANT/SHARD`): `platform`, `tenant`."
  value       = { for id, shard in local.shards : id => { platform = shard.platform, tenant = shard.tenant } }
}

output "public_addresses" {
  description = "The elastic addresses that were made here, by shard: what the tenant's partners see."
  value       = { for id, address in aws_eip.public : id => address.public_ip }
}

output "security_groups" {
  description = "Ids: `platform`, and `tenants` by name."
  value       = { platform = aws_security_group.platform.id, tenants = { for name, group in aws_security_group.tenant : name => group.id } }
}

output "role" {
  description = "Name of the gateways' role, for further policies."
  value       = aws_iam_role.gateway.name
}

output "policy" {
  description = "What that role allows, JSON."
  value       = jsonencode(local.policy)
}

output "autoscaling_group" {
  description = "Name of the group, and null with fixed nodes."
  value       = one(aws_autoscaling_group.nodes[*].name)
}

output "autoscaler_policy" {
  description = "What the role of Portway's autoscaler must allow, JSON; null with fixed nodes."
  value       = local.autoscaler_policy == null ? null : jsonencode(local.autoscaler_policy)
}

output "autoscaler_yaml" {
  description = "autoscaler.yaml for this group; null with fixed nodes. What a node can carry is to be added (docs/autoscaling.md)."
  value       = local.autoscaler_yaml
}
