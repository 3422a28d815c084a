using System.Reflection;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.Metadata;

namespace Sessions.Api;

/// <summary>
/// The <c>{user_id}</c> of a path. The framework leaves <c>%2F</c> in a path as it is, so that "a/b" and "a%2Fb" would be one user: this
/// reads the path as it was sent.
/// </summary>
/// <param name="Value">The user's id.</param>
internal sealed record UserIdPath(string Value) : IBindableFromHttpContext<UserIdPath>, IEndpointParameterMetadataProvider
{
    /// <summary>The route parameter's name.</summary>
    public const string Name = "user_id";

    public static ValueTask<UserIdPath?> BindAsync(HttpContext context, ParameterInfo parameter)
    {
        var routed = (string?)context.GetRouteValue(Name) ?? "";
        var userId = routed.Contains('%', StringComparison.Ordinal) ? Uri.UnescapeDataString(SegmentAsSent(context, routed)) : routed;
        Identifiers.CheckUserId(Name, userId);
        Caller.Of(context).CheckAddress(userId);
        return new(new UserIdPath(userId));
    }

    public static void PopulateMetadata(ParameterInfo parameter, EndpointBuilder builder)
    {
    }

    // /users/{user_id}/…: the segment behind the first one, in a path that the framework did not have to normalise.
    private static string SegmentAsSent(HttpContext context, string routed)
    {
        var target = context.Features.Get<IHttpRequestFeature>()?.RawTarget ?? "";
        var path = target.Split('?', 2)[0].Split('/');
        return path.Length > 2 && path[0].Length == 0 && path[1].Equals("users", StringComparison.OrdinalIgnoreCase) ? path[2] : routed;
    }
}
