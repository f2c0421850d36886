# What the groups let through, and why: docs/aws.md, Security groups.

resource "aws_security_group" "platform" {
  name                   = "portway-${var.name}-platform"
  description            = "Portway ${var.name}: tunnels of function hosts, and the gateways among themselves"
  vpc_id                 = local.platform_vpc
  revoke_rules_on_delete = true
  tags                   = merge(local.tags, { Name = "portway-${var.name}-platform" })
}

resource "aws_security_group" "tenant" {
  for_each = var.tenants

  name                   = "portway-${var.name}-${each.key}"
  description            = "Portway ${var.name}: what functions reach in the network of ${each.key}"
  vpc_id                 = local.tenant_vpcs[each.key]
  revoke_rules_on_delete = true
  tags                   = merge(local.tags, { Name = "portway-${var.name}-${each.key}", "portway:tenant" = each.key })
}

locals {
  # Rules by what they are for: -1 as a port is all of a protocol without ports.
  tunnels = var.tunnel == "gre" ? { gre = { protocol = "47", from = null, to = null } } : {
    for port in distinct(flatten([for shard in values(local.shards) : compact([shard.port, shard.next])])) : "wireguard ${port}" => { protocol = "udp", from = port, to = port }
  }
  # Whoever sends what is too long for a link is told so by ICMP (RFC 1191): type 3, code 4.
  from_hosts = merge(local.tunnels, { "fragmentation needed" = { protocol = "icmp", from = 3, to = 4 } })
  # A host's tunnels begin at any port, and a gateway that took over calls first.
  to_hosts = merge(
    var.tunnel == "gre" ? { gre = { protocol = "47", from = null, to = null } } : null,
    var.tunnel == "gre" ? null : { wireguard = { protocol = "udp", from = 1, to = 65535 } },
    { "fragmentation needed" = { protocol = "icmp", from = 3, to = 4 } },
  )
  among_nodes = {
    vrrp = { protocol = "112", from = null, to = null }
    sync = { protocol = "udp", from = var.ha.sync_port, to = var.ha.sync_port }
  }
  host_sources = merge(
    { for cidr in var.platform.function_host_cidrs : cidr => { cidr = cidr, group = null } },
    { for label, id in var.platform.function_host_security_groups : "group ${label}" => { cidr = null, group = id } },
  )
  # In an overlay HaVips belong to no group's members: what two nodes pass on to each other is under hosts' addresses in any case.
  tunnel_ingress = merge([
    for label, rule in local.from_hosts : { for source, from in local.host_sources : "${label} from ${source}" => merge(rule, from) }
  ]...)
  tunnel_egress = merge([
    for label, rule in local.to_hosts : { for source, to in local.host_sources : "${label} to ${source}" => merge(rule, to) }
  ]...)
  admin_ingress = merge(
    { for cidr in var.admin.cidrs : "admin from ${cidr}" => { cidr = cidr, group = null, protocol = "tcp", from = 9470, to = 9470 } },
    { for label, id in var.admin.security_groups : "admin from group ${label}" => { cidr = null, group = id, protocol = "tcp", from = 9470, to = 9470 } },
  )
  node_rules = { for label, rule in local.among_nodes : "${label} among nodes" => merge(rule, { cidr = null, group = aws_security_group.platform.id }) }
  open_egress = merge([
    for cidr, ports in var.egress : { for port in ports : "tcp ${port} to ${cidr}" => { cidr = cidr, port = port } }
  ]...)
  directory_port = var.directory == null ? null : try(tonumber(regex(":([0-9]+)/?$", var.directory.url)[0]), 443)
  to_directory = var.directory == null ? {} : {
    directory = { cidr = "0.0.0.0/0", port = local.directory_port }
  }

  platform_ingress = merge(local.tunnel_ingress, local.node_rules, local.admin_ingress)
  platform_egress  = merge(local.tunnel_egress, local.node_rules)

  # The machine's own business goes by its primary interface.
  primary_group = var.placement == "platform" ? aws_security_group.platform.id : aws_security_group.tenant[keys(var.tenants)[0]].id
  own_egress = merge(
    local.open_egress,
    { for label, rule in local.to_directory : label => rule if !contains(values(local.open_egress)[*].port, rule.port) },
  )

  # AWS tracks connections by interface: to the one that has taken an address over, a server's packet is the first of all, and must be let in
  # as such. Gateways drop what belongs to no connection.
  tenant_ingress = merge([
    for name, tenant in var.tenants : merge([
      for to in distinct(tenant.allow[*].to) : {
        for label, rule in {
          tcp  = { protocol = "tcp", from = tonumber(split("-", tenant.snat_ports)[0]), to = tonumber(split("-", tenant.snat_ports)[1]) }
          udp  = { protocol = "udp", from = tonumber(split("-", tenant.snat_ports)[0]), to = tonumber(split("-", tenant.snat_ports)[1]) }
          icmp = { protocol = "icmp", from = -1, to = -1 }
        } : "${name}: ${label} from ${to}" => merge(rule, { of = name, cidr = to })
      }
    ]...)
  ]...)
  tenant_egress = merge([
    for name, tenant in var.tenants : merge(flatten([
      for allow in tenant.allow : [
        { for ports in allow.tcp : "${name}: tcp ${ports} to ${allow.to}" => { of = name, cidr = allow.to, protocol = "tcp", ports = ports } },
        { for ports in allow.udp : "${name}: udp ${ports} to ${allow.to}" => { of = name, cidr = allow.to, protocol = "udp", ports = ports } },
        { for any in allow.icmp ? ["icmp"] : [] : "${name}: icmp to ${allow.to}" => { of = name, cidr = allow.to, protocol = "icmp", ports = "all" } },
      ]
    ])...)
  ]...)
}

resource "aws_vpc_security_group_ingress_rule" "platform" {
  for_each = local.platform_ingress

  security_group_id            = aws_security_group.platform.id
  description                  = each.key
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.from
  to_port                      = each.value.to
  cidr_ipv4                    = each.value.cidr
  referenced_security_group_id = each.value.group
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "platform" {
  for_each = local.platform_egress

  security_group_id            = aws_security_group.platform.id
  description                  = each.key
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.from
  to_port                      = each.value.to
  cidr_ipv4                    = each.value.cidr
  referenced_security_group_id = each.value.group
  tags                         = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "tenant" {
  for_each = local.tenant_ingress

  security_group_id = aws_security_group.tenant[each.value.of].id
  description       = each.key
  ip_protocol       = each.value.protocol
  from_port         = each.value.from
  to_port           = each.value.to
  cidr_ipv4         = each.value.cidr
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "tenant" {
  for_each = local.tenant_egress

  security_group_id = aws_security_group.tenant[each.value.of].id
  description       = each.key
  ip_protocol       = each.value.protocol
  from_port         = each.value.protocol == "icmp" ? -1 : each.value.ports == "all" ? 1 : tonumber(split("-", each.value.ports)[0])
  to_port           = each.value.protocol == "icmp" ? -1 : each.value.ports == "all" ? 65535 : tonumber(reverse(split("-", each.value.ports))[0])
  cidr_ipv4         = each.value.cidr
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "own" {
  for_each = local.own_egress

  security_group_id = local.primary_group
  description       = each.key
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
  tags              = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each = toset(var.ssh_cidrs)

  security_group_id = local.primary_group
  description       = "ssh from ${each.key}"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = each.key
  tags              = local.tags
}
