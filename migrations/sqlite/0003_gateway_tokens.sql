-- A gateway's token: 1, good for all that the gateway serves; 0, of that for the tenants in token_tenants alone, as whoever made it had no others.
UPDATE tokens SET everywhere = 1 WHERE gateway IS NOT NULL;
