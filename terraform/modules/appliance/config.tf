# gateway.yaml of each node. What a node learns of itself at its first boot stands between two '@' (modules/boot).

locals {
  allow = {
    for name, tenant in var.tenants : name => [
      for allow in tenant.allow : { for key, value in {
        to   = allow.to
        tcp  = length(allow.tcp) == 0 ? null : contains(allow.tcp, "all") ? ["1-65535"] : allow.tcp
        udp  = length(allow.udp) == 0 ? null : contains(allow.udp, "all") ? ["1-65535"] : allow.udp
        icmp = allow.icmp ? true : null
      } : key => value if value != null }
    ]
  }

  # By tenant, but for what differs from node to node.
  tenant_configs = {
    for name, tenant in var.tenants : name => {
      name      = name
      key       = tenant.key
      interface = local.tenant_interfaces[name]
      allow     = local.allow[name]
      snat      = { ports = tenant.snat_ports }
      inner     = tenant.inner
      track     = length(tenant.track) == 0 ? null : tenant.track
    }
  }
  shard_configs = {
    for id, shard in local.shards : id => {
      shard    = shard.shard
      vrid     = shard.vrid
      platform = shard.platform
      tenant   = shard.tenant
      wireguard = shard.wireguard == null ? null : { for key, value in {
        private_key = local.private_keys[id]
        port        = shard.port
        next        = shard.wireguard.next == null ? null : { private_key = local.next_keys[id], port = shard.next }
      } : key => value if value != null }
    }
  }

  # The router of a subnet is its second address (VPC User Guide, "Subnet CIDR blocks").
  routers = {
    for label in local.labels : label => { for name, tenant in var.tenants : name => cidrhost(tenant.subnets[label].cidr_block, 1) }
  }

  inner = {
    for host, about in var.hosts : host => {
      for id, shard in local.shards : id => cidrhost(var.tenants[shard.of].inner, about.number * local.inner_of_host + shard.shard)
    }
  }
  peers = [
    for host, about in var.hosts : { for key, value in {
      host       = host
      outer      = about.outer
      public_key = about.public_key
      inner      = { for id, address in local.inner[host] : trimsuffix(id, "/0") => [address] }
    } : key => value if value != null }
  ]

  cloud_of_tenants = {
    for name, about in {
      for name, tenant in var.tenants : name => { for key, value in {
        route_tables = length(tenant.route_tables) == 0 ? null : tenant.route_tables
        public       = length(local.public[name]) == 0 ? null : local.public[name]
        attach = !local.autoscaled ? null : {
          device = tenant.device
          tags   = { "portway:appliance" = var.name, "portway:tenant" = name }
        }
      } : key => value if value != null }
    } : name => about if length(about) > 0
  }
  cloud = { aws = { for key, value in {
    region   = local.region
    platform = length(var.platform.route_tables) == 0 ? null : { route_tables = var.platform.route_tables }
    tenants  = length(local.cloud_of_tenants) == 0 ? null : local.cloud_of_tenants
  } : key => value if value != null } }
  public = {
    for name in keys(var.tenants) : name => {
      for id, shard in local.shards : tostring(shard.shard) => shard.public == "new" ? aws_eip.public[id].allocation_id : shard.public if shard.of == name && shard.public != null
    }
  }

  ha = {
    keys      = local.ha_keys
    interval  = var.ha.interval
    preempt   = var.ha.preempt
    sync_port = var.ha.sync_port
  }
  directory = var.directory == null ? null : { for key, value in {
    url        = var.directory.url
    token_file = local.token_file
    ca         = local.ca_file
  } : key => value if value != null }

  # Of a group's nodes nothing is known before they start: one file for all.
  places = merge(
    local.autoscaled ? { "@node@" = { address = "@primary_address@", routers = { for name, tenant in var.tenants : name => "@router.tenant${tenant.device}@" } } } : null,
    local.autoscaled ? null : {
      for name, node in var.nodes : name => { address = local.platform_addresses[name], routers = local.routers[node.subnet] }
    },
  )
  group = merge(
    local.autoscaled ? { nodes = "directory", lifecycle = { aws = { look = "2s" } } } : null,
    local.autoscaled ? null : { nodes = { for name in keys(var.nodes) : name => local.platform_addresses[name] } },
  )

  node_configs = {
    for name, place in local.places : name => {
      gateway = { for key, value in {
        node      = name
        platform  = { for key, value in { interface = local.platform_interface, address = place.address, mtu = var.platform.mtu } : key => value if value != null }
        tunnel    = var.tunnel
        admin     = local.has_admin ? "${place.address}:9470" : null
        cloud     = local.cloud
        ha        = merge(local.ha, local.group)
        directory = local.directory
        tenants = [
          for tenant, about in local.tenant_configs : merge(
            { for key, value in about : key => value if value != null },
            { router = place.routers[tenant] },
            { shards = [
              for id, shard in local.shards : { for key, value in merge(local.shard_configs[id], { priority = lookup(shard.priority, name, null) }) : key => value if value != null } if shard.of == tenant
            ] },
          )
        ]
      } : key => value if value != null }
      peers = { static = local.peers }
    }
  }
  gateway_yaml = { for name, config in local.node_configs : name => yamlencode(config) }
}
