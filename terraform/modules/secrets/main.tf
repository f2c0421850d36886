ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = var.keys

  # Of base64 42 digits, which are 252 bits; two more make a WireGuard key of them, whose lowest and highest bits are no secret (RFC 7748, section 5).
  password_length     = each.value.kind == "ha" ? 64 : 42
  exclude_uppercase   = each.value.kind == "ha"
  exclude_punctuation = each.value.kind == "ha"
  exclude_characters  = each.value.kind == "ha" ? "ghijklmnopqrstuvwxyz" : "!\"#$%&'()*,-.:;<=>?@[\\]^_`{|}~"
  # All digits are equally likely.
  require_each_included_type = false
}

resource "aws_ssm_parameter" "this" {
  for_each = var.keys

  name             = "${var.prefix}/${each.key}"
  description      = each.value.kind == "ha" ? "Key of a group of Portway's gateways" : "Private WireGuard key of a shard of Portway's"
  type             = "SecureString"
  key_id           = var.kms_key_id
  value_wo         = "${ephemeral.aws_secretsmanager_random_password.this[each.key].random_password}${each.value.kind == "ha" ? "" : "A="}"
  value_wo_version = each.value.generation
  tags             = var.tags
}
