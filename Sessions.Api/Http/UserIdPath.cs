using System.Reflection;
using Microsoft.AspNetCore.Http.Metadata;
using Sessions.Api.Http.Auth;

namespace Sessions.Api.Http;

/// <summary>
/// The <c>{user_id}</c> of <c>/users/{user_id}/…</c>. The framework leaves <c>%2F</c> in a path as it is, so that "a/b" and "a%2Fb" would
/// be one user: this reads the path as it was sent.
/// </summary>
/// <param name="Value">The user's id.</param>
internal sealed record UserIdPath(string Value) : IBindableFromHttpContext<UserIdPath>, IEndpointParameterMetadataProvider
{
    /// <summary>The route parameter's name.</summary>
    public const string Name = "user_id";

    public static ValueTask<UserIdPath?> BindAsync(HttpContext context, ParameterInfo parameter)
    {
        var userId = RequestTarget.Segment(context, 1, (string?)context.GetRouteValue(Name) ?? "");
        UserIds.Check(Name, userId);
        Caller.Of(context).CheckAddress(userId);
        return new(new UserIdPath(userId));
    }

    public static void PopulateMetadata(ParameterInfo parameter, EndpointBuilder builder)
    {
    }
}
