using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;

namespace Sessions.Api.Http.Auth;

/// <summary>What authentication adds to the OpenAPI document: how to send credentials, and who may do what.</summary>
internal static class AuthDocumentation
{
    private const string BearerName = "bearer";
    private const string HeaderName = "api_key";

    /// <summary>Adds it.</summary>
    public static void Add(OpenApiOptions options, AuthMode mode)
    {
        options.AddDocumentTransformer((document, _, _) =>
        {
            document.Components ??= new OpenApiComponents();
            document.Components.SecuritySchemes ??= new Dictionary<string, IOpenApiSecurityScheme>();
            document.Components.SecuritySchemes[BearerName] = new OpenApiSecurityScheme
            {
                Type = SecuritySchemeType.Http,
                Scheme = "bearer",
                BearerFormat = mode == AuthMode.Jwt ? "JWT" : null,
            };
            if (mode == AuthMode.ApiKey)
            {
                document.Components.SecuritySchemes[HeaderName] = new OpenApiSecurityScheme
                {
                    Type = SecuritySchemeType.ApiKey,
                    In = ParameterLocation.Header,
                    Name = ApiKeyHandler.HeaderName,
                };
            }

            return Task.CompletedTask;
        });
        options.AddOperationTransformer((operation, context, _) =>
        {
            var metadata = context.Description.ActionDescriptor.EndpointMetadata;
            if (metadata.OfType<IAllowAnonymous>().Any())
            {
                return Task.CompletedTask;
            }

            operation.Security =
            [
                Requirement(BearerName, context.Document),
                .. mode == AuthMode.ApiKey ? [Requirement(HeaderName, context.Document)] : (OpenApiSecurityRequirement[])[],
            ];
            var scopes = metadata.OfType<ScopesMetadata>().Last().AnyOf;
            operation.Description = ($"{operation.Description}\n\nNeeds the scope "
                + $"{string.Join(" or ", scopes.Select(scope => $"`{ServiceDefaults.Settings.NameOf(scope)}`"))}.").TrimStart();
            return Task.CompletedTask;
        });
    }

    private static OpenApiSecurityRequirement Requirement(string scheme, OpenApiDocument? document) =>
        new() { [new OpenApiSecuritySchemeReference(scheme, document)] = [] };
}
