output "arns" {
  description = "The parameters' ARNs, by name: what the other modules take."
  value       = { for name, parameter in aws_ssm_parameter.this : name => parameter.arn }
}
